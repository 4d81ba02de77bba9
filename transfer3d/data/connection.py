"""Connections to untrusted HTTP servers: they are bounded in time, and redirects are reported."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

LONGEST_S = 20.0  # default timeout

SayMoved = Callable[[str, str], None]
"""Called with the requested server and the server that it redirects to."""


def new_opener(say_moved: SayMoved) -> urllib.request.OpenerDirector:
    """Returns an opener for http and https only, including redirects.

    Its timeout also limits the time for all headers together and for each part of a body.

    Args:
        say_moved: called when a server redirects to another one.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _HttpHandler(),
        _HttpsHandler(),
        _Redirects(say_moved),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _cut_after(seconds: float, connected: socket.socket) -> Iterator[None]:
    """Ends a connection after a number of seconds; a socket's own timeout restarts with each byte."""
    timer = threading.Timer(seconds, partial(_cut, connected))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Answer(http.client.HTTPResponse):
    """Bounds the time for a part of a chunked body; the data after the last chunk may be endless."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._connected, self._timeout = sock, sock.gettimeout() or LONGEST_S

    def read1(self, n: int = -1) -> bytes:
        if not self.chunked:
            return super().read1(n)
        with _cut_after(self._timeout, self._connected):
            return super().read1(n)


class _Bounded(http.client.HTTPConnection):
    response_class = _Answer

    def getresponse(self) -> http.client.HTTPResponse:
        connected = cast(socket.socket, cast(Any, self).sock)
        with _cut_after(self.timeout or LONGEST_S, connected):
            return super().getresponse()


class _BoundedTls(_Bounded, http.client.HTTPSConnection):
    """The same over TLS."""


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Bounded, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_BoundedTls, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, say_moved: SayMoved) -> None:
        self._say_moved = say_moved

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # urllib would read the whole body of the response, which may be endless
        server, other = _server(req.full_url), _server(newurl)
        if server != other:
            self._say_moved(server, other)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _server(address: str) -> str:
    """Returns scheme, host and port, without a password."""
    parts = urllib.parse.urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

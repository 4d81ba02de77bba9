"""HTTP servers: the answer to the first request, or to the second, as bytes on the wire."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.edits import edited_bytes
from fuzz.index import write_shards
from fuzz.outcome import Outcome, of_call

LINES = (
    *(
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 7, 7",
        b"Content-Length:",
    ),
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip",
        b"Content-Encoding: gzip",
        b"Content-Range: x",
    ),
    *(
        b"Location: http://[::1",
        b"Location: file:///etc/passwd",
        b"Location: /index.json",
        b"Location: \xff\x00",
    ),
    *(b"Connection: upgrade", b"X: " + b"a" * 70_000, b"\x00: \x00", b"no colon", b" folded"),
)
STATUS = (
    *(b"200 OK", b"206 Partial Content", b"100 Continue", b"204 No Content", b"301 Moved", b"302 Found"),
    *(b"304 Not Modified", b"401 Unauthorized", b"404 Not Found", b"416 Range Not Satisfiable", b"429 Slow"),
    *(b"503 Later", b"999 ?", b"-1 ?", b"", b"OK"),
)


class Files:
    """See `fuzz.outcome.Target`. A file is the number of a request, 0 or 1, and the answer's bytes."""

    attack = "HTTP answers: status, headers, lengths and bodies changed; index and members read"
    suffix = ".http"

    def __init__(self, place: Path) -> None:
        self.folder = place / "shards"
        if not self.folder.exists():
            write_shards(self.folder)
        self.index = (self.folder / "index.json").read_bytes()

    def cases(self) -> SearchStrategy[bytes]:
        """Returns answers with odd lines, and whole ones with changed bytes."""
        bodies = st.sampled_from(
            (self.index, self.index[:-9], b"", b"{}", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"x" * 300_000)
        )
        odd = st.builds(
            _answer, st.sampled_from(STATUS), st.lists(st.sampled_from(LINES), max_size=3), bodies
        )
        whole = [
            _answer(status, [b"Content-Length: %d" % len(self.index)], self.index) for status in STATUS[:2]
        ]
        return st.builds(
            lambda number, answer: number + answer, st.sampled_from((b"0", b"1")), odd | edited_bytes(whole)
        )

    def attempt(self, case: Path) -> Outcome:
        """Reads shards from a server whose first or second answer this is."""
        content = case.read_bytes()
        with _server(self.folder, content[1:], 1 if content[:1] == b"1" else 0) as address:
            return of_call(lambda: _read(address))


def _read(address: str) -> None:
    from transfer3d.data.remote import HttpStore, Patience
    from transfer3d.data.shards import ShardVideos, read_index

    store = HttpStore(address, Patience(stall_s=0.5, tries=2, pause_s=0.0))
    index = read_index(store)
    for split in index.counts:
        videos = ShardVideos(store, index, split=split, labelled=True)
        videos.open(0)


def _answer(status: bytes, lines: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""]) + body


@contextmanager
def _server(folder: Path, odd: bytes, number: int) -> Iterator[str]:
    """Serves a folder, but for the answer to one request."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        asked = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError, IndexError):
                connection.settimeout(5)
                request = connection.recv(65536)
                answer = odd if asked == number else _plain(folder, request)
                asked += 1
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _plain(folder: Path, request: bytes) -> bytes:
    """Answers a request as it should be."""
    path = folder / request.split(b" ")[1].decode().lstrip("/")
    if not path.is_file():
        return _answer(b"404 Not Found", [b"Content-Length: 0"], b"")
    data, status = path.read_bytes(), b"200 OK"
    if b"bytes=" in request:
        first, last = request.partition(b"bytes=")[2].split(b"\r\n")[0].split(b"-")
        data, status = data[int(first) : int(last) + 1], b"206 Partial Content"
    return _answer(status, [b"Content-Length: %d" % len(data)], data)

"""Heartbeats between the processes of a run; a process that hangs ends the run.

A process that is stopped (SIGSTOP), or whose machine is lost, keeps its connections open, so the others would
wait for it in their next collective until that times out. Therefore a thread of each process sends a byte in
every round, also while its process computes, decodes or waits in a collective. A process that exits closes
its connection; collectives and the launcher report that themselves.

Process 0 is connected to each of the others: it watches them, and they watch it. Silence is counted in rounds
of the watching thread, not by the clock, so that a process that was itself stopped does not report the others
afterwards.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from transfer3d.errors import SetupError

ROUNDS = 20
"""Silent rounds after which a process counts as hung."""
JOIN_S, HELLO_S, END_TIMEOUT_S = 10.0, 1.0, 5.0
"""Timeouts: of connecting all processes, of each greeting, and of the final message and log entry."""
TOKEN_BYTES = 16
BEAT = b"\n"
"""Ends each message; a rank before it reports that this process is hung."""
MAX_BYTES = 4096

log = logging.getLogger(__name__)


class Member(NamedTuple):
    """A process's entry in the exchange at the start; `port` and `token` are those of process 0."""

    host: str
    pid: int
    port: int = 0
    token: str = ""


class Heartbeat:
    """The connections of one process and the thread that uses them; `close` ends both.

    Args:
        rank: rank of this process.
        members: all processes, by rank.
        peers: connections to the watched processes, by rank.
        hung_after_s: seconds of silence after which a process counts as hung.

    Attributes:
        on_hang: called with the error before this process exits.
    """

    def __init__(
        self, rank: int, members: list[Member], peers: dict[int, socket.socket], hung_after_s: float
    ) -> None:
        self._rank, self._members, self._peers, self._hung_after_s = rank, members, peers, hung_after_s
        self.on_hang: Callable[[SetupError], None] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        if peers:
            self._thread.start()

    def close(self) -> None:
        """Stops watching and being watched; a second call does nothing."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            for peer in self._peers.values():
                _shut_down(peer)

    def _watch(self) -> None:
        round_s = self._hung_after_s / ROUNDS
        silent, unread = dict.fromkeys(self._peers, 0), dict.fromkeys(self._peers, b"")
        for peer in self._peers.values():
            peer.setblocking(False)
        while self._peers and not self._closed.wait(round_s):
            for rank, peer in list(self._peers.items()):
                try:
                    received = _exchange(peer)
                except OSError:  # that process has ended
                    _shut_down(self._peers.pop(rank))
                    continue
                silent[rank] = 0 if received else silent[rank] + 1
                *messages, unread[rank] = (unread[rank] + received).split(BEAT)
                for message in messages:
                    if message.isdigit() and int(message) < len(self._members):
                        self._end(int(message))
            hung = next((rank for rank in self._peers if silent[rank] >= ROUNDS), None)
            if hung is not None:
                for peer in self._peers.values():
                    with suppress(OSError):
                        peer.send(b"%d" % hung + BEAT)
                time.sleep(round_s)  # gives them time to read it: unread data is lost when this process exits
                self._end(hung)

    def _end(self, hung: int) -> None:
        """Ends this process, whose main thread may be in a collective that no exception reaches."""
        code = SetupError.exit_code
        try:
            guard = threading.Timer(END_TIMEOUT_S, os._exit, (code,))  # writing may hang, too
            guard.daemon = True
            guard.start()
            error = SetupError(self._reason(hung))
            log.error("%s", error)
            if self.on_hang is not None:
                self.on_hang(error)
        finally:
            os._exit(code)

    def _reason(self, hung: int) -> str:
        seconds = f"{self._hung_after_s:g} s"
        if hung == self._rank:
            return (
                f"process {hung} was stopped for more than {seconds}, so the others ended the run. "
                "Run the command again, training with --resume."
            )
        host, pid, *_ = self._members[hung]
        return (
            f"process {hung} (pid {pid} on {host}) has not responded for {seconds}: it is stopped, or its "
            "machine is lost. Saved files are intact. Kill that process if it still exists, and run the "
            "command again, training with --resume."
        )


def join(
    rank: int, gather: Callable[[Member], list[Member]], *, address: str, hung_after_s: float
) -> Heartbeat:
    """Connects this process with the others; every process must call it.

    Args:
        rank: rank of this process.
        gather: an all-gather: returns the arguments of all processes, by rank.
        address: address of process 0.
        hung_after_s: seconds of silence after which a process counts as hung.
    """
    me, listener = Member(socket.gethostname(), os.getpid()), None
    if rank == 0:
        listener = _listen()
        me = me._replace(port=listener.getsockname()[1], token=secrets.token_hex(TOKEN_BYTES))
    members = [Member(*member) for member in gather(me)]
    if listener is not None:
        with listener:
            peers = _accept(listener, me.token, len(members))
        missing = [str(rank) for rank in range(1, len(members)) if rank not in peers]
        reason = f"process {', '.join(missing)} did not connect" if missing else ""
    else:
        peers, reason = {}, ""
        try:
            peers[0] = _connect(address, members[0], rank)
        except OSError as error:
            reason = f"process 0 cannot be reached at {address}:{members[0].port} ({error})"
    if reason:
        log.warning("no heartbeat: %s; a hung process is only noticed when a collective times out", reason)
    return Heartbeat(rank, members, peers, hung_after_s)


def _listen() -> socket.socket:
    if socket.has_dualstack_ipv6():
        with suppress(OSError):  # IPv6 may be switched off
            return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _accept(listener: socket.socket, token: str, world: int) -> dict[int, socket.socket]:
    """Returns the connections of the processes that sent the token, by rank."""
    peers: dict[int, socket.socket] = {}
    deadline = time.monotonic() + JOIN_S
    while len(peers) < world - 1 and (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            peer, _ = listener.accept()
        except OSError:
            continue
        rank = _greeted_by(peer, token)
        if rank is not None and 0 < rank < world and rank not in peers:
            peers[rank] = peer
        else:
            peer.close()
    return peers


def _greeting(token: str, rank: int) -> bytes:
    return f"{token}{rank:08d}".encode()


def _greeted_by(peer: socket.socket, token: str) -> int | None:
    """Returns the rank in a connection's greeting; None if the greeting is invalid."""
    expected, received = len(_greeting(token, 0)), b""
    deadline = time.monotonic() + HELLO_S
    try:
        while len(received) < expected and (left := deadline - time.monotonic()) > 0:
            peer.settimeout(left)
            if not (part := peer.recv(expected - len(received))):
                break
            received += part
    except OSError:
        return None
    number = received[2 * TOKEN_BYTES :]
    if not number.isdigit() or not hmac.compare_digest(received, _greeting(token, int(number))):
        return None
    return int(number)


def _connect(address: str, main: Member, rank: int) -> socket.socket:
    peer = socket.create_connection((address, main.port), timeout=JOIN_S)
    peer.sendall(_greeting(main.token, rank))
    return peer


def _exchange(peer: socket.socket) -> bytes:
    """Returns the received bytes and sends a heartbeat; raises OSError if the other side has closed."""
    received = b""
    with suppress(BlockingIOError):
        received = peer.recv(MAX_BYTES)
        if not received:
            raise ConnectionResetError
    with suppress(OSError):  # a closed connection is noticed in the next round
        peer.send(BEAT)
    return received


def _shut_down(peer: socket.socket) -> None:
    """Closes a connection at both ends, even if another process, such as a forked worker, has a copy."""
    with suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    peer.close()

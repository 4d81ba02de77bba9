"""Heartbeats of real processes: who is stopped is named, and nobody else."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from transfer3d.engine import heartbeat
from transfer3d.engine.heartbeat import Heartbeat, Member, join

pytestmark = pytest.mark.proc
HUNG_AFTER_S = 1.0
PROCESS = """
import hashlib, json, logging, sys, threading, time
from pathlib import Path
from transfer3d.engine.heartbeat import join

logging.basicConfig(format="%(message)s")
folder, rank, world, hung_after_s = Path(sys.argv[1]), *map(int, sys.argv[2:4]), float(sys.argv[4])


def gather(member):
    (folder / f"{rank}.new").write_text(json.dumps(member))
    (folder / f"{rank}.new").rename(folder / f"{rank}.json")
    files = [folder / f"{other}.json" for other in range(world)]
    while not all(file.exists() for file in files):
        time.sleep(0.01)
    return [json.loads(file.read_text()) for file in files]


heart = join(rank, gather, address="localhost", hung_after_s=hung_after_s)
heart.on_hang = lambda error: (folder / f"last-words.{rank}").write_text(str(error))
print("joined", flush=True)
for line in sys.stdin:
    rounds, took_s = 1_500_000, 0.0
    while line == "compute\\n" and took_s < 1.2 * hung_after_s:  # a long call that never comes back to Python
        started, rounds = time.monotonic(), 2 * rounds
        hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
        took_s = time.monotonic() - started
    if took_s:
        print("computed", flush=True)
heart.close()
print([thread.name for thread in threading.enumerate()], flush=True)
"""


class Group:
    """Children that watch each other until their input ends."""

    def __init__(self, folder, world, hung_after_s=HUNG_AFTER_S):
        self.folder = folder
        self.children = [
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, str(folder), str(rank), str(world), str(hung_after_s)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(world)
        ]  # fmt: skip
        for rank in range(world):
            assert self.line(rank) == "joined"

    def line(self, rank):
        return self.children[rank].stdout.readline().strip()

    def tell(self, rank, line):
        self.children[rank].stdin.write(line + "\n")
        self.children[rank].stdin.flush()

    def signal(self, number, *ranks):
        for rank in ranks:
            self.children[rank].send_signal(number)

    def end(self, rank):
        """Ends a child's input; returns its code and what it said."""
        said, errors = self.children[rank].communicate(timeout=30)
        return self.children[rank].returncode, said + errors


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_process_is_named_and_the_others_end(tmp_path, stopped):
    group = Group(tmp_path, 3)
    group.signal(signal.SIGSTOP, stopped)
    started = time.monotonic()
    others = [rank for rank in range(3) if rank != stopped]
    for rank in others:
        group.children[rank].wait(20)
    assert HUNG_AFTER_S * 0.9 < time.monotonic() - started < HUNG_AFTER_S * 10
    for rank in others:
        code, said = group.end(rank)
        assert code == 5
        pid = group.children[stopped].pid
        assert f"process {stopped} (pid {pid} on {socket.gethostname()}) has not responded" in said
        assert "--resume" in said
        assert (tmp_path / f"last-words.{rank}").read_text() in said
    group.signal(signal.SIGCONT, stopped)
    group.children[stopped].wait(20)
    code, said = group.end(stopped)
    assert (code, f"process {stopped} was stopped for more than 1 s" in said) == (5, True), said


def test_a_process_that_ends_or_is_killed_is_no_alarm(tmp_path):
    """Process 0 works longest, as one that writes a report; in another group it ends first."""
    (tmp_path / "other").mkdir()
    group, other = Group(tmp_path, 3), Group(tmp_path / "other", 2)
    clean = (0, "['MainThread']\n")
    assert [group.end(1), other.end(0)] == [clean, clean]
    group.signal(signal.SIGKILL, 2)
    time.sleep(1.5 * HUNG_AFTER_S)
    assert [group.end(0), other.end(1)] == [clean, clean]


def test_a_machine_that_was_asleep_accuses_nobody(tmp_path):
    group = Group(tmp_path, 3)
    group.signal(signal.SIGSTOP, 0, 1, 2)
    time.sleep(1.5 * HUNG_AFTER_S)
    group.signal(signal.SIGCONT, 0, 1, 2)
    time.sleep(0.5 * HUNG_AFTER_S)
    assert [group.end(rank)[0] for rank in range(3)] == [0, 0, 0]


def test_processes_that_compute_are_not_hung(tmp_path):
    group = Group(tmp_path, 2)
    started = time.monotonic()
    for rank in (0, 1):
        group.tell(rank, "compute")
    assert [group.line(rank) for rank in (0, 1)] == ["computed"] * 2
    assert time.monotonic() - started > HUNG_AFTER_S
    assert [group.end(rank)[0] for rank in range(2)] == [0, 0]


def test_strangers_are_not_taken_for_processes(monkeypatch):
    monkeypatch.setattr(heartbeat, "JOIN_S", 3.0)
    monkeypatch.setattr(heartbeat, "HELLO_S", 0.2)
    strangers = []

    def gather(member):
        for hello in (b"", b"\n" * 40, b"x" * 40, b"0" * 32 + b"00000001", b"GET / HTTP/1.1\r\n\r\n"):
            stranger = socket.create_connection(("localhost", member.port))
            stranger.sendall(hello)
            strangers.append(stranger)
        true = socket.create_connection(("localhost", member.port))
        true.sendall(f"{member.token}00000001".encode())
        again = socket.create_connection(("localhost", member.port))
        again.sendall(f"{member.token}00000007".encode())
        strangers.extend((true, again))
        return [member, Member("here", 1)]

    with_one = join(0, gather, address="localhost", hung_after_s=600)
    assert list(with_one._peers) == [1]
    with_one.close()
    for stranger in strangers:
        stranger.close()
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_process_that_cannot_be_reached_is_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "JOIN_S", 0.1)
    pair = [Member("here", 1, port=1, token="0" * 32), Member("there", 2)]
    join(1, lambda _: pair, address="localhost", hung_after_s=60).close()
    join(0, lambda me: [me, pair[1]], address="localhost", hung_after_s=60).close()
    assert "process 0 cannot be reached at localhost:1" in caplog.text
    assert "process 1 did not connect" in caplog.text


def test_what_makes_no_sense_is_no_message():
    ours, theirs = socket.socketpair()
    heart = Heartbeat(1, [Member("here", os.getpid())] * 2, {0: ours}, hung_after_s=1.0)
    theirs.sendall(b"9\n-1\nx\n" + b"1" * 100)
    time.sleep(0.2)
    theirs.sendall(json.dumps({}).encode() + b"\n")
    time.sleep(0.1)
    heart.close()  # this process continues
    theirs.close()

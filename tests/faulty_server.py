"""A local HTTP server of files that stalls, truncates, answers 500, or knows no ranges, as a test says."""

import re
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class State:
    """What to do with the next requests, one word each ("ok" when there is none), and what was asked."""

    def __init__(self, folder, ranges):
        self.folder, self.ranges = Path(folder), ranges
        self.faults, self.always, self.asked = [], "ok", []
        self.lock = threading.Lock()

    def next_fault(self, path, part):
        with self.lock:
            self.asked.append((path, part))
            return self.faults.pop(0) if self.faults else self.always


@contextmanager
def serving(folder, *, ranges=True):
    """Yields the address and the state of a server of a folder's files."""
    state = State(folder, ranges)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = state.folder / unquote(self.path).lstrip("/")
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            fault = state.next_fault(path.name, part and part[0])
            if fault == "500":
                return self.send_error(500)
            if fault == "nowhere":
                self.send_response(302)
                self.send_header("Location", "http://[::1")
                return self.end_headers()
            if fault in ("moved", "loop"):
                self.send_response(302)
                server = "localhost" if fault == "moved" else "127.0.0.1"
                self.send_header("Location", f"http://{server}:{self.server.server_address[1]}{self.path}")
                self.end_headers()
                with suppress(OSError):  # a body without end, which nobody needs
                    for _ in range(10_000 if fault == "moved" else 1):
                        self.wfile.write(b"x" * 100_000)
                return None
            if fault == "trailers":
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(b"2\r\n{}\r\n0\r\n")
                    while True:
                        self.wfile.write(b"X-Trailer: more\r\n")
                        time.sleep(0.05)
                return None
            if fault == "continue":
                with suppress(OSError):
                    while True:
                        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                        time.sleep(0.05)
            if fault in ("endless", "abc"):
                self.send_response(206 if part and state.ranges else 200)
                if fault == "abc":
                    self.send_header("Content-Length", "abc")
                self.end_headers()
                with suppress(OSError):
                    for _ in range(1 if fault == "abc" else 10_000):
                        self.wfile.write(b"x" * 100_000)
                return None
            if fault == "elsewhere":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
                return self.end_headers()
            if not path.is_file():
                return self.send_error(404)
            data = path.read_bytes()
            if part and state.ranges:
                data = data[int(part[1]) : int(part[2]) + 1]
            if fault == "flip":
                data = bytes([data[0] ^ 1]) + data[1:]
            self.send_response(206 if part and state.ranges else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if fault == "truncate":
                data = data[: len(data) // 2]
            if fault == "stall":
                self.wfile.write(data[: len(data) // 2])
                time.sleep(1.0)
                return None
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has seen enough
                self.wfile.write(data)
            return None

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", state
    finally:
        server.shutdown()
        server.server_close()

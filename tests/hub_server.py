"""A server that speaks as much of the hub's protocol as a download needs, and misbehaves on demand."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(files, broken=(), commits=None):
    """Serves files of repositories.

    Args:
        files: `user/name/file` to bytes.
        broken: those whose body ends half-way.
        commits: `user/name` to the commit of its main branch; may change between requests.

    Yields:
        The address, and a list that grows by `METHOD user/name/file@revision` with each request.
    """
    seen = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            repository, _, rest = self.path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            name = f"{repository}/{file}"
            seen.append(f"{self.command} {name}@{revision}")
            data = files.get(name)
            if data is None:
                known = any(other.startswith(f"{repository}/") for other in files)
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", (commits or {}).get(repository, COMMIT))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data[: len(data) // 2] if name in broken else data)
                self.close_connection = True

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

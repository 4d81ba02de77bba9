"""A server that speaks as much of the hub's protocol as down- and uploads need, and misbehaves on demand."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(files, broken=(), commits=None, refuse_commits=False):
    """Serves files of repositories.

    Args:
        files: `user/name/file` to bytes; an upload adds to it.
        broken: those whose body ends half-way.
        commits: `user/name` to the commit of its main branch; may change between requests.
        refuse_commits: answers uploads as it does an account that may not write there.

    Yields:
        The address, and a list that grows by `METHOD user/name/file@revision` with each request.
    """
    seen = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def do_POST(self):
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(f"POST {self.path}")
            kind, _, rest = self.path.removeprefix("/api/").partition("/")
            if kind == "repos":
                made = json.loads(sent)
                name = "/".join(filter(None, (made.get("organization"), made["name"])))
                self.say({"url": f"http://{self.headers['Host']}/{name}"})
            elif kind == "validate-yaml":
                self.say({"errors": [], "warnings": []})
            elif rest.endswith("/preupload/main"):
                paths = [file["path"] for file in json.loads(sent)["files"]]
                modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
                self.say({"files": modes})
            elif refuse_commits:
                self.say({"error": "You have no right to write here."}, 403)
            else:
                repository = rest.removesuffix("/commit/main")
                for line in map(json.loads, sent.splitlines()):
                    if line["key"] == "file":
                        data = base64.b64decode(line["value"]["content"])
                        files[f"{repository}/{line['value']['path']}"] = data
                url = f"http://{self.headers['Host']}/{repository}/commit/{COMMIT}"
                self.say({"success": True, "commitUrl": url, "commitOid": COMMIT, "hookOutput": ""})

        def say(self, answer, status=200):
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

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

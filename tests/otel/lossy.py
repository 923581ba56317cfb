"""A proxy in front of the daemon that passes a request on and withholds the answer, so that the client sends it again."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


# Headers of the connection, not of the request.
PASSED_OVER = ("host", "connection", "transfer-encoding", "content-length")


class Lossy(ThreadingHTTPServer):
    """Loses the answers to the first ``lost`` accepted requests to each path, and gives 503 instead, as a load balancer would."""

    daemon_threads = True

    def __init__(self, port, lost=1):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port, self.lost, self.requests = port, lost, []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.body()
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in PASSED_OVER}
        upstream.request("POST", self.path, body, headers)
        answer = upstream.getresponse()
        status, said, kind = answer.status, answer.read(), answer.getheader("content-type", "")
        upstream.close()
        with self.server.lock:
            self.server.requests.append((self.path, status, body))
            taken = [path for path, status, _ in self.server.requests if path == self.path and status == 200]
            is_lost = status == 200 and len(taken) <= self.server.lost
        if is_lost:
            status, said = 503, b""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers["content-length"]))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *_):
        pass

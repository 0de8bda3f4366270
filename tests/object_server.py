"""An S3-compatible server on loopback, and a proxy in front of it that fails on demand. Real HTTP, no network."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}
_ERRORS = {"500": (500, "InternalError"), "503": (503, "SlowDown"), "403": (403, "AccessDenied")}


@dataclasses.dataclass
class Fault:
    """What to do with the next `times` requests of `method` whose path contains `part`.

    500, 503, 403    answer with that error
    slow             answer after `seconds`
    cut              close the connection before anything is done
    lose             do it, and close the connection without an answer
    half             close the connection in the middle of the answer's body
    """

    method: str
    part: str
    action: str
    times: int = 1
    seconds: float = 0.0
    met: int = 0

    def wants(self, method: str, path: str) -> bool:
        return method == self.method and self.part in path and self.met < self.times


class Proxy(ThreadingHTTPServer):
    """Forwards to `target` (host, port), applies `faults`, keeps a `log` of (method, path) that were done."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str]] = []
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        self.faults = list(faults)
        try:
            yield
        finally:
            self.faults = []

    def fault(self, method: str, path: str) -> Fault | None:
        with self.guard:
            found = next((f for f in self.faults if f.wants(method, path)), None)
            if found:
                found.met += 1
            return found

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """No noise."""

    def _any(self) -> None:
        body = self._body()
        fault = self.server.fault(self.command, self.path)
        action = fault.action if fault else ""
        if action in _ERRORS:
            status, code = _ERRORS[action]
            data = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, data)
            return
        if action == "cut":
            self._hang_up()
            return
        if fault and action == "slow":
            time.sleep(fault.seconds)
        status, headers, data = self._forward(body)
        with self.server.guard:
            self.server.log.append((self.command, self.path))
        if action == "lose":
            self._hang_up()
        else:
            self._answer(status, headers, data, sent=len(data) // 2 if action == "half" else None)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.server.target, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        response = connection.getresponse()
        data = response.read()
        answer = {k: v for k, v in response.getheaders() if k.lower() not in _HOP}
        if self.command == "HEAD":
            answer["Content-Length"] = response.getheader("Content-Length", "0")
        connection.close()
        return response.status, answer, data

    def _answer(self, status: int, headers: dict[str, str], data: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])
        if sent is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True


@contextlib.contextmanager
def served() -> Iterator[Proxy]:
    """A proxy to a running, empty server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port())
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()

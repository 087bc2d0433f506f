"""A proxy on loopback, in front of a tracking server, that misbehaves as it is told."""

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

Answer = tuple[int, bytes]


class Proxy:
    """Hands requests on to `upstream`, one connection each.

    `delay` is the seconds before each answer. `fault` is asked about each request, by method and path, and may
    name what happens instead: a number is answered with that status and nothing done; "lost" does it and
    hangs up; "late" hangs up at once and does it `lateness` seconds later, or when it is waited for. While it is
    `down`, connections are refused.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.delay = 0.0
        self.fault: Callable[[str, str], int | str | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self.lateness = 0.3
        self._late: list[threading.Thread] = []
        self._late_now = threading.Event()
        self._port, self._listening = 0, None
        self.up()
        self.uri = f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Listen, on the same port as before."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy._serve(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._listening = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._listening.daemon_threads = True
        self._port = self._listening.server_address[1]
        threading.Thread(target=self._listening.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections."""
        if self._listening:
            self._listening.shutdown()
            self._listening.socket.close()  # and do not wait for requests under way
            self._listening = None

    def wait_for_late(self) -> None:
        """Do what is still to be done late, and return when it is done."""
        self._late_now.set()
        for thread in self._late:
            thread.join()
        self._late_now.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.down()
        self.wait_for_late()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        method, path = handler.command, urlsplit(handler.path).path
        self.requests.append((method, path))
        fault = self.fault(method, path)
        if fault == "late":
            thread = threading.Thread(target=self._forward_late, args=(handler, body))
            thread.start()
            self._late.append(thread)
            return
        time.sleep(self.delay)
        status, answer = (fault, b"no") if isinstance(fault, int) else self._forward(handler, body)
        if fault == "lost":
            return
        try:
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(answer)))
            handler.end_headers()
            handler.wfile.write(answer)
        except OSError:  # the client has given up
            pass

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("host", "connection")}
        try:
            connection.request(handler.command, handler.path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _forward_late(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self._late_now.wait(self.lateness)
        self._forward(handler, body)

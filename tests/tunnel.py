"""A tunnel to a port on this machine, whose connections can be cut, as where a laptop sleeps or a proxy gives up."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Tunnel:
    """Carries bytes between its own port and another. While it is entered; `cut` ends what is under way."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection; new ones are carried again."""
        while self._open:
            end(self._open.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._listening)
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                self._open += [here, there]
                self.connections += 1
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=carry, args=(source, target), daemon=True).start()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes, until either side ends."""
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    end(target)


def end(one: socket.socket) -> None:
    with suppress(OSError):  # ended already
        one.shutdown(socket.SHUT_RDWR)
    one.close()

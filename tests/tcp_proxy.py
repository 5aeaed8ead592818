"""A TCP proxy that does to its connections what bad networks do."""

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "hang", "late", "reset", "reset_after", "unavailable", "slow", "cut"]
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: text/html\r\nContent-Length: 4\r\n"
    b"Connection: close\r\n\r\nbusy"
)
_SLICE, _PAUSE_S = 256, 0.1
_LATE_S = 3.0


class Proxy:
    """Passes connections on to a port of this machine, or fails them as `mode` says, which may change at any time."""

    def __init__(self, port: int) -> None:
        self.target, self.mode = port, "pass"
        self.only = b""
        """In the first line of the requests that are failed."""
        self.n_failed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._open = False
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            with suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            request = _whole(client)
            if not request:
                return
            # in force when the request has come
            mode = self.mode if self.only in request.partition(b"\r\n")[0] else "pass"
            self.n_failed += mode != "pass"
            if mode == "hang":
                client.settimeout(60)
                client.recv(1)  # until the client gives up
            elif mode == "reset":
                _reset(client)
            elif mode == "unavailable":
                client.sendall(_UNAVAILABLE)
            else:
                if mode == "late":
                    time.sleep(_LATE_S)
                self._answer(client, request, mode)

    def _answer(self, client: socket.socket, request: bytes, mode: str) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            server.sendall(request)
            answer = _whole(server)
        if mode == "reset_after":
            _reset(client)
        elif mode == "cut":
            client.sendall(answer[: len(answer) - 5])
        elif mode == "slow":
            for i in range(0, len(answer), _SLICE):
                client.sendall(answer[i : i + _SLICE])
                threading.Event().wait(_PAUSE_S)
        else:
            client.sendall(answer)


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _whole(connection: socket.socket) -> bytes:
    """One HTTP message with a Content-Length or without a body; asks that the connection ends with it."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = connection.recv(65536)
        if not part:
            return found
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body

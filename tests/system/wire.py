"""A proxy on the loopback that passes everything on and keeps what the client sent."""

from __future__ import annotations

import socket
import threading


class RecordingProxy:
    """Between a client and a service; ``sent`` is every byte of the client's, connection after connection."""

    def __init__(self, port: int) -> None:
        """``port``: the service's, on the loopback."""
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: list[bytearray] = []
        self.refuse = 0
        """So many connections are cut off as soon as they are made."""
        self.lose = 0
        """So many answers are thrown away after the service has given them."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connection."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                self.refuse -= 1
                client.close()
                continue
            recorded = bytearray()
            self.sent.append(recorded)
            lose, self.lose = self.lose > 0, max(0, self.lose - 1)
            threading.Thread(target=self._serve, args=(client, recorded, lose), daemon=True).start()

    def _serve(self, client: socket.socket, recorded: bytearray, lose: bool) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as service:
            back = threading.Thread(target=_pump, args=(service, client, bytearray(), lose), daemon=True)
            back.start()
            _pump(client, service, recorded, lose=False)
            back.join(timeout=30)


def _pump(source: socket.socket, target: socket.socket, recorded: bytearray, lose: bool) -> None:
    try:
        while data := source.recv(65_536):
            recorded.extend(data)
            if lose:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR if lose else socket.SHUT_WR)
    except OSError:
        return

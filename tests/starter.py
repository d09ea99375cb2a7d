"""HTCondor's starter, as far as a job talks to it by chirp."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

__all__ = ["Starter"]


class Starter:
    """Answers as HTCondor's: 0 to the right cookie, ``code`` to the rest."""

    def __init__(self, folder: Path, code: str = "0\n") -> None:
        self.code, self.heard = code, []  # type: ignore[var-annotated]
        self._server = socket.create_server(("127.0.0.1", 0))
        (folder / ".chirp.config").write_text(f"127.0.0.1 {self._server.getsockname()[1]} secret\n")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._server.accept()
            except OSError:
                return
            with link, link.makefile("rb") as lines:
                for line in lines:
                    self.heard.append(line.decode().rstrip("\n"))
                    link.sendall(b"0\n" if line == b"cookie secret\n" else self.code.encode())
                    if not self.code:
                        break

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()

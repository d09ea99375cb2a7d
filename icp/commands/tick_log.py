"""The log of ticks that nobody watches: one file, bounded, and a word to cron only where nothing else can tell (hides files)."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

__all__ = ["KEPT", "LARGEST", "TickLog"]

LARGEST = 1_000_000
"""Bytes of the log at which it is put aside, when a tick begins."""
KEPT = 2
"""Logs that were put aside."""
_LONGEST = 2000


class TickLog:
    """``path``, and ``path.1`` and ``path.2`` that came before it. A log that cannot be written stops no tick."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if path.exists() and path.stat().st_size >= LARGEST:
                for number in range(KEPT, 0, -1):
                    before = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
                    if before.exists():
                        before.replace(path.with_name(f"{path.name}.{number}"))

    def say(self, text: str) -> None:
        """One line with the time; what has several lines is indented."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        body = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(fd, f"{stamp} {body.rstrip()}\n".replace("\n", "\n    ").rstrip(" ").encode("utf-8", "backslashreplace"))
            finally:
                os.close(fd)

    def news(self, error: str) -> bool:
        """Whether this error is another one than the last tick's, but for numbers in it: cron mails what is printed, and once is enough."""
        error = re.sub(r"[0-9]+", "#", error)
        mark = self.path.with_name(f"{self.path.name}.error")
        try:
            if mark.read_text(encoding="utf-8", errors="replace") == error:
                return False
        except OSError:
            pass
        with contextlib.suppress(OSError):
            mark.write_text(error, encoding="utf-8")
        return True

    def well(self) -> None:
        """A tick was made: the next error is news."""
        with contextlib.suppress(OSError):
            self.path.with_name(f"{self.path.name}.error").unlink()

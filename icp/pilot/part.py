"""A file on its way, and how long one waits for it (hides partial files)."""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SCHEMES", "Broken", "Limits", "Part"]

SCHEMES = ("file", "http", "https", "ssh")
"""What is fetched and stored without a command of the configuration."""


class Broken(Exception):
    """One try of a transfer did not end well; the text is a clause. ``again``: another one may."""

    def __init__(self, text: str, again: bool = True, pause: float = 0.0, wrong: bool = False) -> None:
        Exception.__init__(self, text)
        self.again, self.pause = again, pause
        self.wrong = wrong
        """Whether all came, and are other bytes."""


class Limits:
    """How patient transfers are: seconds, bytes, numbers of tries."""

    tries = 5
    pauses = (1.0, 4.0, 15.0, 60.0)
    """Before the second try and those that follow."""
    progress = 16 << 20
    """A try that brought so many bytes does not count."""
    silent = 60.0
    """Without a byte."""
    slow, slow_bytes = 120.0, 12000
    """A try that brings less than so many bytes in so many seconds is broken off."""
    command = 7200.0
    """For a command that shows nothing while it works."""


class Part:
    """What has come of a file; ``path`` None: it is only counted and summed, by ``see``."""

    def __init__(
        self,
        path: "str | None",
        limits: Limits,
        given_up: "Callable[[], bool]",
        sure: bool = False,
        size: "int | None" = None,
        see: "Callable[[bytes], None] | None" = None,
    ) -> None:
        self.path, self.limits, self.given_up, self.see = path, limits, given_up, see
        self.sure = sure
        """Whether a checksum will tell if the bytes are right."""
        self.size = size
        """So many bytes are expected, if that is known."""
        self.mark: str | None = None
        """What the server says that names these very bytes, so that only they are gone on with."""
        self.wrong: str | None = None
        """The sha256 of what came last and was not what is wanted."""
        self.told: str | None = None
        """The sha256 that the other side computed of what it sends."""
        self.total: int | None = None
        self.have = self.brought = 0
        self._fd = -1
        self._begin()

    def _begin(self) -> None:
        if self.path is not None:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._window, self._seen = time.monotonic(), 0

    def restart(self) -> None:
        """Everything that has come is forgotten."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
        self.have, self.total, self.mark = 0, None, None

    def next_try(self) -> None:
        self.brought = 0
        self._window, self._seen = time.monotonic(), 0

    def add(self, data: bytes) -> None:
        """Appends; OSError where the disk is full, Broken where it goes too slowly or is not wanted any more."""
        if self._fd >= 0:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        if self.see is not None:
            self.see(data)
        self.have += len(data)
        self.brought += len(data)
        self._seen += len(data)
        if self.given_up():
            raise Broken("given up", again=False)
        if self.size is not None and self.have > self.size:
            self.restart()
            raise Broken(f"it has more bytes than the {self.size} that are expected")
        now = time.monotonic()
        if now - self._window > self.limits.slow:
            if self._seen < self.limits.slow_bytes:
                raise Broken(f"only {self._seen} bytes came in {now - self._window:.0f} s")
            self._window, self._seen = now, 0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

"""The whole screen of a terminal, and its keys; what was there before comes back however it ends (hides modes, signals and escape sequences)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from types import FrameType, TracebackType
from typing import Any

from icp.output import strip

__all__ = ["Terminal", "able"]

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?7l\x1b[?25l", "\x1b[?25h\x1b[?7h\x1b[?1049l"
"""The other screen, where nothing wraps and there is no cursor; and back."""
_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down", b"\x1b[5~": "page up", b"\x1b[6~": "page down",
    b" ": "page down", b"\x1b[H": "home", b"\x1bOH": "home", b"\x1b[1~": "home", b"g": "home", b"\x1b[F": "end", b"\x1bOF": "end", b"\x1b[4~": "end",
    b"G": "end", b"q": "q", b"Q": "q", b"\x0c": "redraw",
}  # fmt: skip

_KEY = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO.|.", re.DOTALL)


def able() -> bool:
    """Whether standard output is a terminal with a screen."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


class Terminal:
    """For the main thread. Keys are read only where standard input is that terminal, and this process is in its foreground."""

    def __init__(self) -> None:
        self._out = sys.stdout.fileno()
        self._in: int | None = None
        self._modes: list[Any] | None = None
        self._before: dict[int, Any] = {}
        self._shown: list[str] | None = None
        self._woken = (-1, -1)
        self._typed: list[str] = []

    def __enter__(self) -> Terminal:  # noqa: PYI034 -- Self is of Python 3.11
        fd = sys.stdin.fileno() if sys.stdin.isatty() else None
        with contextlib.suppress(OSError):
            self._in = fd if fd is not None and os.tcgetpgrp(fd) == os.getpgrp() else None
        self._woken = os.pipe()
        for end in self._woken:
            os.set_blocking(end, False)
        for number, handler in ((signal.SIGWINCH, self._resized), (signal.SIGTSTP, self._stopped), (signal.SIGTERM, _ended), (signal.SIGHUP, _ended)):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError, termios.error):  # the terminal may be gone
            self._end()
        for end in self._woken:
            os.close(end)

    @property
    def heard(self) -> bool:
        """Whether keys are read."""
        return self._in is not None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, now; not what was exported when a shell began."""
        try:
            columns, rows = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return (columns or 80), (rows or 24)

    def draw(self, lines: list[str]) -> None:
        """These lines, in one write, if anything is new: nothing flickers."""
        if lines == self._shown:
            return
        columns = self.size[0]
        # behind a line that fills its row the rest to be erased would be its last character
        rows = (line + ("\x1b[K" if len(strip(line)) < columns else "") for line in lines)
        self._write("\x1b[H" + "\r\n".join(rows) + ("\x1b[J" if len(strip(lines[-1])) < columns else ""))
        self._shown = lines

    def wait(self, seconds: float) -> str | None:
        """A key's name as soon as one is pressed; ``redraw`` when the size changed; None after so long."""
        sources = [self._woken[0], *([] if self._in is None else [self._in])]
        end = time.monotonic() + seconds
        while not self._typed:
            ready = select.select(sources, [], [], max(0.0, end - time.monotonic()))[0]
            if self._woken[0] in ready:
                os.read(self._woken[0], 4096)
                return "redraw"
            if not ready:
                return None
            typed = os.read(sources[1], 64)
            if not typed:
                self._in, sources = None, sources[:1]  # nobody types there any more
            self._typed += [_KEYS[key] for key in _KEY.findall(typed) if key in _KEYS]
        if self._typed[0] == "redraw":
            self._shown = None
        return self._typed.pop(0)

    def _begin(self) -> None:
        if self._in is not None:
            self._modes = termios.tcgetattr(self._in)
            tty.setcbreak(self._in, termios.TCSADRAIN)
        self._write(_ENTER)
        self._shown = None

    def _end(self) -> None:
        self._write(_LEAVE)
        if self._in is not None and self._modes is not None:
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._modes)

    def _write(self, text: str) -> None:
        sys.stdout.flush()
        data = text.encode(errors="replace")
        while data:
            data = data[os.write(self._out, data) :]

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        self._shown = None
        with contextlib.suppress(BlockingIOError):
            os.write(self._woken[1], b"x")

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal as it was, and we take it again when we are called back."""
        self._end()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._begin()
        self._resized(number, frame)


def _ended(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

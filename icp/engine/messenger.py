"""A person is told of events by a command of theirs, at most once each (hides its process, and that it may hang or fail)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from icp.config import Notify
from icp.ledger import notices
from icp.ledger.db import Ledger
from icp.ledger.notices import Notice
from icp.pilot import faults

__all__ = ["Messenger"]

AT_ONCE = 4
"""Commands that run at the same time."""
_GRACE = 5


@dataclass
class _Call:
    notice: Notice
    process: subprocess.Popen[bytes]
    stderr: IO[bytes]
    end: float


class Messenger:
    """Calls the command in the background: no tick waits for it.

    An event counts as told before its command begins. So a kill in between leaves one untold, and never one told twice; a command
    that fails is not called again for that event.
    """

    def __init__(self, ledger: Ledger, how: Notify, clock: Callable[[], float] = time.time) -> None:
        self.ledger, self.how, self.clock = ledger, how, clock
        self._calls: list[_Call] = []

    def tell(self) -> list[str]:
        """Begin what can be begun, and look at what was begun before: what failed, in a sentence each."""
        untold = self._heard()
        if self.how.command is None:
            notices.take(self.ledger, (), 0, self.clock())
            return untold
        for one in notices.take(self.ledger, self.how.events, AT_ONCE - len(self._calls), self.clock()):
            faults.visit("engine.notice_taken")
            try:
                self._calls.append(self._call(one))
                faults.visit("engine.notice_begun")
            except OSError as error:
                untold.append(self._ended(one, f"it cannot be started: {error.strerror}"))
        return untold

    def wait(self) -> list[str]:
        """Until all is told, or cannot be: what failed. For a process that ends then."""
        untold = self.tell()
        while self._calls:
            time.sleep(0.05)
            untold += self.tell()
        return untold

    def leave(self) -> None:
        """This process ends now: commands that run go on alone, and nobody will know how they ended."""
        for call in self._calls:
            call.stderr.close()
            call.process.returncode = call.process.poll() or 0  # nobody waits for it any more, and that is meant
        self._calls.clear()

    def _call(self, one: Notice) -> _Call:
        said = {"event": one.event, "text": one.text, "dataset": one.dataset, "site": one.site, "at": one.at, "id": one.number,
                "ledger": str(self.ledger.path), "host": os.uname().nodename}  # fmt: skip
        assert self.how.command is not None
        argv = ["/bin/sh", "-c", self.how.command]
        if shutil.which("timeout") is not None:
            # it is ended in time even if this process is not there any more
            argv = ["timeout", "-k", str(_GRACE), str(self.how.timeout), *argv]
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- read and closed at the command's end
        with tempfile.TemporaryFile() as stdin:
            # a file: a command that does not read it holds nobody up
            stdin.write(json.dumps(said).encode() + b"\n")
            stdin.seek(0)
            process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
        return _Call(one, process, stderr, time.monotonic() + self.how.timeout + _GRACE + 1)

    def _heard(self) -> list[str]:
        untold = []
        for call in list(self._calls):
            code = call.process.poll()
            if code is None and time.monotonic() > call.end:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(call.process.pid, signal.SIGKILL)
                code = call.process.wait()
            if code is None:
                continue
            self._calls.remove(call)
            with call.stderr as stderr:
                stderr.seek(0)
                lines = stderr.read(65536).decode("utf-8", "replace").strip().splitlines()
            if code == 0:
                notices.outcome(self.ledger, call.notice.number, None)
                continue
            why = f"it did not end within {self.how.timeout:g} s" if code in (124, 137, -9) else f"exit {code}"
            untold.append(self._ended(call.notice, why + (f": {lines[-1][:200]}" if lines else "")))
        return untold

    def _ended(self, one: Notice, why: str) -> str:
        notices.outcome(self.ledger, one.number, why)
        return f"notify.command failed ({why}) and is not called again for this: {one.text}"

"""Running a command on this machine, bounded in time (hides process groups and pipes)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from icp.backends.base import Outcome, Result, Unknown

__all__ = ["LocalTransport"]


class LocalTransport:
    """This machine as a site. A command that does not end in time is killed with its process group, and is Unknown."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = dict(env) if env else {}

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Outcome:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **self.env} if self.env else None,
                # a Ctrl-C at the terminal is for the engine, which lets the exchange end
                start_new_session=True,
            )
        except OSError as error:
            return Unknown(f"{argv[0]}: {error.strerror}")
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired as error:
            self._kill(process)
            return Unknown(f"no answer within {timeout:.0f} s", error.output or b"")
        except BaseException:
            self._kill(process)
            raise
        if process.returncode < 0:
            return Unknown(f"killed by {signal.Signals(-process.returncode).name}", out)
        return Result(process.returncode, out, err)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

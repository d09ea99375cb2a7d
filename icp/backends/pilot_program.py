"""The pilot's program as a command at a site, sent there first where it is missing (hides which Python runs it, and how it gets there)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from icp.backends.base import Outcome, Result, Transport, Unknown
from icp.backends.spool_client import NO_PROGRAM, SpoolClient, SpoolPlace, with_python
from icp.backends.transport import LocalTransport

__all__ = ["PilotProgram"]


class PilotProgram:
    """Runs one of its subcommands; ``place``: where it lies, and what runs it."""

    def __init__(self, transport: Transport, place: SpoolPlace, env: Mapping[str, str]) -> None:
        self.transport, self.place, self.env = transport, place, dict(env)

    def run(self, words: Sequence[str], timeout: float) -> Outcome:
        """The outcome of ``pilot.pyz WORDS``; Unknown also where it could not be sent."""
        if isinstance(self.transport, LocalTransport):
            assert self.place.python is not None
            return self.transport.run([self.place.python, "-I", "-S", str(self.place.program), *words], b"", timeout)
        program = shlex.quote(str(self.place.program))
        script = f"[ -r {program} ] || exit {NO_PROGRAM}\n"
        script += "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(self.env.items()))
        script += with_python(self.place.python, f"-I -S {program} {shlex.join(words)}")
        outcome = self.transport.run(["/bin/sh", "-c", script], b"", timeout)
        if isinstance(outcome, Result) and outcome.code == NO_PROGRAM and not outcome.out:
            sent = SpoolClient(self.transport, self.env).ship(self.place, timeout)
            if sent is not None:
                return Unknown(sent.why)
            outcome = self.transport.run(["/bin/sh", "-c", script], b"", timeout)
        return outcome

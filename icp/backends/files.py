"""A part of a file at a site, to be looked at now (hides whether it is on this machine)."""

from __future__ import annotations

from pathlib import Path

from icp.backends.base import Result, Transport
from icp.backends.transport import LocalTransport
from icp.errors import NotFound, Unreachable

__all__ = ["read_part"]

_MISSING = 44
_SCRIPT = f'[ -r "$1" ] || exit {_MISSING}; tail -c "+$2" -- "$1" | head -c "$3"'


def read_part(transport: Transport, path: Path, offset: int, length: int, timeout: float = 60.0) -> bytes:
    """Up to ``length`` bytes from ``offset``; NotFound where it is not there or cannot be read, Unreachable where nobody can tell."""
    if isinstance(transport, LocalTransport):
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise NotFound(f"{path} cannot be read: {error.strerror}") from None
    outcome = transport.run(["/bin/sh", "-c", _SCRIPT, "sh", str(path), str(offset + 1), str(length)], b"", timeout)
    if not isinstance(outcome, Result):
        raise Unreachable(outcome.why)
    if outcome.code == _MISSING:
        raise NotFound(f"{path} is not there")
    return outcome.out

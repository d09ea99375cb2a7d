"""What every way to reach a site gives: a result, or Unknown; nothing in between (hides local, ssh, and whatever comes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Outcome", "Result", "Transport", "Unknown"]


@dataclass(frozen=True, slots=True)
class Result:
    """The command ran to its end: its exit code and what it printed."""

    code: int
    out: bytes
    err: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell whether the command ran; ``out`` is what had arrived until then."""

    why: str
    out: bytes = b""


Outcome = Result | Unknown


class Transport(Protocol):
    """Runs a command at a site. Never raises for what happens there; ``timeout`` in seconds."""

    def run(self, argv: Sequence[str], stdin: bytes, timeout: float) -> Outcome: ...

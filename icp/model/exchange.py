"""What one exchange carries to a site and back, as records (the bytes are icp.pilot.framing's)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PASSING", "Answer", "Piece", "Want", "refusal"]

PASSING = ("busy", "cut")
"""Why a spool refuses what it will take the next time."""
_REFUSALS = {
    "copy": "this ledger is a copy, or another one took its place at the site",
    "behind": "this ledger is an old backup, or a copy of one that went on",
    "ahead": "the spool is older than this ledger",
    "other ledger": "the spool belongs to another ledger",
    "no spool": "the spool that this ledger used is gone, or this ledger was copied to another machine",
}


def refusal(word: str) -> str:
    """What a spool's refusal of a ledger means, to be said after the name of the site."""
    return f"refuses this ledger ({word}): {_REFUSALS.get(word, word)}"


@dataclass(frozen=True, slots=True)
class Want:
    """A part of an output that is wanted at home: ``index`` is the declared output's."""

    attempt: str
    index: int
    name: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an output; ``size`` is the whole file's."""

    attempt: str
    index: int
    name: str
    offset: int
    size: int
    data: bytes


@dataclass(slots=True)
class Answer:
    """The whole frames of a site's answer, in the order in which they were written.

    ``whole`` is False when the stream was cut: what is here counts all the same.
    """

    owner: Mapping[str, Any] | None = None
    refused: str | None = None
    applied: Mapping[str, Any] | None = None
    agents: list[Any] = field(default_factory=list)
    journals: list[tuple[str, str, int, int, bytes]] = field(default_factory=list)
    """(agent, stream, segment, offset, raw lines)"""
    pieces: list[Piece] = field(default_factory=list)
    missing: list[tuple[str, int, str, str]] = field(default_factory=list)
    """(attempt, index, name, why)"""
    batch: list[tuple[int | None, str, str]] = field(default_factory=list)
    """(exit code or None, stdout, stderr) of each query, in their order"""
    logs: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    """(name, offset, size, bytes)"""
    cards: list[tuple[str, bytes]] = field(default_factory=list)
    """(place/name, body) of cards at the site, when asked for"""
    bags: list[tuple[Mapping[str, Any], bytes]] = field(default_factory=list)
    """(pilot, name, gathered, receipt, told; the card) of pilots whose cards travel with them, when cards were asked for"""
    stored: list[str] = field(default_factory=list)
    """attempts with outputs in the site's store, when cards were asked for"""
    tails: dict[str, str] = field(default_factory=dict)
    """pilot -> the last that its batch job printed, of those that were asked for"""
    health: Mapping[str, Any] | None = None
    more: bool = False
    whole: bool = False

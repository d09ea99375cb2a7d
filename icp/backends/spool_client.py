"""The engine's end of an exchange: orders and questions out, an Answer back (hides frames and how the program gets there)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icp.backends import ship
from icp.backends.base import Result, Transport, Unknown
from icp.model.exchange import Answer, Piece, Want
from icp.pilot.spool import ANSWER_LIMIT, FrameParser, frame

__all__ = ["PIECE", "Hello", "LocalSpool", "Query", "SpoolClient", "order", "parse_answer"]

PIECE = 4 * 1000 * 1000
"""Bytes of one piece of an output in an exchange."""
TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Hello:
    ledger: str
    epoch: int
    serial: int
    """Of the orders, or the last answered one where there are none."""
    orders: tuple[bytes, str] | None
    """(bytes, sha256) of the outbox."""
    new: bool = False
    """The spool may be made."""


@dataclass(frozen=True, slots=True)
class Query:
    streams: Mapping[str, Sequence[int]] = field(default_factory=dict)
    want: Sequence[Want] = ()
    batch: Sequence[Sequence[str]] = ()
    fenced: Sequence[str] = ()
    logs: Sequence[tuple[str, int, int]] = ()
    cards: bool = False


def order(kind: str, meta: Mapping[str, Any], body: bytes = b"") -> bytes:
    """One order as it stands in an outbox."""
    return frame(kind, meta, body)


def request(hello: Hello, query: Query) -> bytes:
    """The bytes that go to the site."""
    promised = None if hello.orders is None else {"bytes": len(hello.orders[0]), "sha256": hello.orders[1]}
    said = {"ledger": hello.ledger, "epoch": hello.epoch, "serial": hello.serial, "orders": promised, "new": hello.new}
    asked = {
        "streams": {name: list(position) for name, position in query.streams.items()},
        "want": [[one.attempt, one.index, one.name, one.offset, one.length] for one in query.want],
        "batch": [list(argv) for argv in query.batch],
        "fenced": list(query.fenced),
        "logs": [list(one) for one in query.logs],
        "cards": query.cards,
    }
    return b"".join([frame("hello", said), b"" if hello.orders is None else hello.orders[0], frame("query", asked), frame("end", {})])


def parse_answer(data: bytes) -> Answer:
    """The whole frames of an answer; a stream that broke off gives what came before."""
    answer = Answer()
    for one in FrameParser().feed(data):
        meta: Any = one.meta
        if one.kind == "owner":
            answer.owner = meta
        elif one.kind == "refused":
            answer.refused = str(meta.get("why"))
        elif one.kind == "applied":
            answer.applied = meta
        elif one.kind == "agents":
            answer.agents = meta
        elif one.kind == "journal":
            answer.journals.append((meta["agent"], meta["stream"], meta["segment"], meta["offset"], one.body))
        elif one.kind == "file":
            answer.pieces.append(Piece(meta["attempt"], meta["index"], meta["name"], meta["offset"], meta["size"], one.body))
        elif one.kind == "missing":
            answer.missing.append((meta["attempt"], meta["index"], meta["name"], meta["why"]))
        elif one.kind == "batch":
            answer.batch.append((meta["rc"], one.body.decode("utf-8", "replace")))
        elif one.kind == "log":
            answer.logs.append((meta["name"], meta["offset"], meta["size"] or 0, one.body))
        elif one.kind == "card":
            answer.cards.append((f"{meta['place']}/{meta['name']}", one.body))
        elif one.kind == "stored":
            answer.stored += meta
        elif one.kind == "health":
            answer.health = meta
        elif one.kind == "end":
            answer.more, answer.whole = bool(meta.get("more")), True
    return answer


class SpoolClient:
    """Talks to the spool of one site through a transport."""

    def __init__(self, transport: Transport, root: str, program: str, python: str) -> None:
        self.transport, self.root, self.program, self.python = transport, root, program, python

    def exchange(self, hello: Hello, query: Query, timeout: float = TIMEOUT) -> Answer | Unknown:
        """One conversation; Unknown when not even the owner's frame came back."""
        argv = [self.python, "-I", "-S", self.program, "exchange", "--root", self.root, "--ledger", hello.ledger]
        outcome = self.transport.run(argv, request(hello, query), timeout)
        answer = parse_answer(outcome.out)
        if answer.refused is not None or answer.owner is not None:
            return answer
        if isinstance(outcome, Result):
            last = outcome.err.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"exit {outcome.code}, no answer"]
            return Unknown(last[0])
        return outcome


@dataclass(frozen=True, slots=True)
class LocalSpool:
    """Where the spool of site ``local`` is, and the program in it."""

    root: Path
    program: Path
    python: str = sys.executable

    @classmethod
    def place(cls, base: Path, ledger: str) -> Path:
        """The spool of a ledger below a site's root."""
        return base / ledger

    @classmethod
    def install(cls, base: Path, ledger: str) -> LocalSpool:
        """Put the program where pilots of this machine find it, as long as they live: beside the spool, by content hash."""
        folder = base / "programs"
        path, _ = ship.cached(folder)
        return cls(cls.place(base, ledger), path, sys.executable or shutil.which("python3") or "python3")


def plain(value: Any) -> bytes:
    """JSON as it stands in cards and metadata: one line, sorted, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


assert PIECE < ANSWER_LIMIT

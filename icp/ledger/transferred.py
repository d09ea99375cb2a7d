"""What attempts fetched and stored by URL, as their agents told (hides the rows)."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from icp.ledger.facts import text, whole

__all__ = ["HOW", "TransferView", "of_attempts", "record"]

HOW = ("fetched", "cache", "stored")
"""An input that came over the network, or from the site's cache; an output."""


@dataclass(frozen=True, slots=True)
class TransferView:
    """A file that an attempt fetched or stored; ``seconds`` with all tries and checks."""

    how: str
    name: str
    url: str
    bytes: int
    seconds: float
    sha256: str


def record(db: sqlite3.Connection, attempt: int, moved: Any) -> None:
    """Write down what an ``ended`` fact tells; a row that says something else than the format is left out."""
    if not isinstance(moved, list):
        return
    for idx, row in enumerate(moved):
        try:
            _, name, url, size, seconds, sha256, how = row
            if how not in HOW or not math.isfinite(seconds) or len(bytes.fromhex(sha256)) != 32:
                continue
            values = (attempt, idx, HOW.index(how), text(name)[:255], text(url)[:1000], whole(size), whole(round(seconds * 1000)), bytes.fromhex(sha256))
        except (TypeError, ValueError, OverflowError):
            continue
        db.execute("INSERT OR REPLACE INTO transferred VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def of_attempts(db: sqlite3.Connection, attempts: Iterable[int]) -> dict[int, list[TransferView]]:
    """By attempt.id, in the order in which it was done."""
    found: dict[int, list[TransferView]] = defaultdict(list)
    for attempt in attempts:
        rows = db.execute("SELECT how, name, url, bytes, ms, sha256 FROM transferred WHERE attempt = ? ORDER BY idx", (attempt,)).fetchall()
        for how, name, url, size, ms, sha256 in rows:
            found[attempt].append(TransferView(HOW[how], name, url, size, ms / 1000, sha256.hex()))
    return found

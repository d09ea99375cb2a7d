"""How a big table is gone through, and how much of what is wrong is written out (hides sizes)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

__all__ = ["CHUNK", "EACH", "Found", "chunks", "limited"]

EACH = 20
"""Violations of one invariant that are written out; the rest is a number."""
CHUNK = 200_000
"""Rows of a big table that one query looks at."""

Found = Iterator[str]


def limited(sentences: Iterator[str]) -> list[str]:
    shown: list[str] = []
    more = 0
    for sentence in sentences:
        if len(shown) < EACH:
            shown.append(sentence)
        else:
            more += 1
    if more:
        shown.append(f"and {more} more like the last one")
    return shown


def chunks(db: sqlite3.Connection, table: str) -> Iterator[tuple[int, int]]:
    first, last = db.execute(f"SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table})").fetchone()
    if first is not None:
        for low in range(first, last + 1, CHUNK):
            yield low, low + CHUNK - 1

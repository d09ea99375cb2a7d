"""What a person is to be told, each event once: noted with the change that it tells of (hides the table)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from icp.ledger.datasets import something_to_do
from icp.ledger.db import Ledger

__all__ = ["GAP", "Notice", "add", "last", "newest", "outcome", "silence", "since", "take", "waiting"]

GAP = 3600.0
"""Seconds without a tick, while there is something to do, that a person is told of."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One event."""

    number: int
    event: str
    dataset: str | None
    site: str | None
    at: float
    text: str
    state: str
    told: float | None
    said: str | None
    """Why its command failed."""


def add(db: sqlite3.Connection, event: str, text: str, *, dataset: int | None = None, site: int | None = None, at: float | None = None) -> None:
    """Note an event in the transaction that makes it; without ``at`` it happened in the last tick."""
    db.execute(
        "INSERT INTO notice (event, dataset, site, at, text) VALUES (?, ?, ?, coalesce(?, (SELECT value FROM meta WHERE key = 'last_tick'), 0), ?)",
        (event, dataset, site, at, text),
    )


def silence(db: sqlite3.Connection, now: float) -> None:
    """Note that nobody ticked for too long though there was something to do; once for each such time."""
    row = db.execute("SELECT value FROM meta WHERE key = 'last_tick'").fetchone()
    if row is None or now - row[0] <= GAP or not something_to_do(db):
        return
    if db.execute("SELECT 1 FROM notice WHERE event = 'no-tick' AND at = ?", (row[0],)).fetchone() is None:
        hours = (now - row[0]) / 3600
        add(db, "no-tick", f"there was no tick for {hours:.1f} h: `icp status` says whether an engine runs, `icp cron show` what cron is told", at=row[0])


_QUERY = (
    "SELECT n.id, n.event, d.name, s.name, n.at, n.text, n.state, n.told, n.said FROM notice n "
    "LEFT JOIN dataset d ON d.id = n.dataset LEFT JOIN site s ON s.id = n.site "
)


def take(ledger: Ledger, events: Collection[str], most: int, now: float) -> list[Notice]:
    """Events to tell now, ``most`` at once. They count as told from here on, whatever becomes of it: a second time would be worse than none.

    Those of other kinds are nobody's business, for good.
    """
    if not waiting(ledger.db):
        return []
    with ledger.write() as db:
        marks = ", ".join("?" * len(events))
        db.execute(f"UPDATE notice SET state = 'unasked' WHERE state = 'new' AND event NOT IN ({marks})", tuple(events))
        found = [Notice(*row) for row in db.execute(_QUERY + "WHERE n.state = 'new' ORDER BY n.id LIMIT ?", (most,)).fetchall()]
        db.executemany("UPDATE notice SET state = 'begun', told = ? WHERE id = ?", [(now, one.number) for one in found])
    return found


def outcome(ledger: Ledger, number: int, why: str | None) -> None:
    """How the command of an event ended: None is well."""
    with ledger.write() as db:
        db.execute("UPDATE notice SET state = ?, said = ? WHERE id = ?", ("told" if why is None else "failed", why, number))


def waiting(db: sqlite3.Connection) -> bool:
    """Whether some event is still to be told."""
    return db.execute("SELECT 1 FROM notice INDEXED BY notice_new WHERE state = 'new' LIMIT 1").fetchone() is not None


def newest(db: sqlite3.Connection) -> int:
    """The number of the newest event."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM notice").fetchone()[0])


def since(db: sqlite3.Connection, number: int) -> list[Notice]:
    """Events after the one of this number."""
    return [Notice(*row) for row in db.execute(_QUERY + "WHERE n.id > ? ORDER BY n.id LIMIT 100", (number,)).fetchall()]


def last(db: sqlite3.Connection, limit: int) -> list[Notice]:
    """The newest events, the newest first."""
    return [Notice(*row) for row in db.execute(_QUERY + "ORDER BY n.id DESC LIMIT ?", (limit,)).fetchall()]

"""Cards with a batch job of their own: kept together, and where they travel with it heard of and gathered (hides the stages of a bag)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from icp.ledger.fold import Fold
from icp.ledger.rows import read_attempts
from icp.model.batch import Known
from icp.pilot.live import parse
from icp.states import Attempt, Pilot, Task

__all__ = ["begun", "gathered", "hear", "match_cards"]


def match_cards(db: sqlite3.Connection, site: int, *, direct: bool) -> list[str]:
    """Pilots whose bags are to be gathered now. ``direct``: each card there has a batch job of its own: one that waits without is asked back, and a job
    that waits without a card shall end."""
    if direct:
        _match(db, site)
    return _gathers(db, site)


def _match(db: sqlite3.Connection, site: int) -> None:
    db.execute(
        "UPDATE attempt SET stop = 1 WHERE live = 1 AND site = ? AND state = ? AND stop = 0 "
        "AND NOT EXISTS (SELECT 1 FROM pilot p WHERE p.card = attempt.card AND (p.live = 1 OR p.bag IN (1, 2, 3)))",
        (site, int(Attempt.QUEUED)),
    )
    db.execute(
        "UPDATE pilot SET stopping = 1, reason = 'what it was to run is not wanted any more' WHERE site = ? AND live = 1 AND state <= ? AND stopping = 0 "
        "AND card IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.card = pilot.card AND a.live = 1)",
        (site, int(Pilot.PENDING)),
    )
    # a card that travels with its job can only be had back by its end
    db.execute(
        "UPDATE pilot SET stopping = 1, reason = 'what it was to run is not wanted any more' WHERE site = ? AND live = 1 AND stopping = 0 AND bag = 1 "
        "AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.card = pilot.card AND a.live = 1 AND (a.stop = 0 OR (pilot.state > ? AND a.stop IN (1, 3))))",
        (site, int(Pilot.PENDING)),
    )


def _gathers(db: sqlite3.Connection, site: int, limit: int = 200) -> list[str]:
    """Pilots whose job is over, or never was, and whose bag is to be read now; marked as told."""
    rows = db.execute(
        "SELECT id, key FROM pilot INDEXED BY pilot_bag WHERE site = ? AND bag IN (1, 2, 3) AND (bag = 2 OR (bag = 1 AND live = 0)) LIMIT ?", (site, limit)
    ).fetchall()
    db.executemany("UPDATE pilot SET bag = 3 WHERE id = ?", [(row[0],) for row in rows])
    return [row[1].hex() for row in rows]


def gathered(db: sqlite3.Connection, site: int, key: str, said: Mapping[str, Any]) -> tuple[int | None, bool]:
    """What came back with a pilot's job was read. (the card, if it is to be done again, whether it may have been begun)."""
    row = db.execute("SELECT id, card, started FROM pilot WHERE key = ? AND site = ? AND bag = 3", (bytes.fromhex(key), site)).fetchone()
    if row is None:
        return None, False
    how, back = said.get("how"), str(said.get("back"))
    untaken = how == "recalled" and back == "whole"
    db.execute("UPDATE pilot SET bag = ? WHERE id = ?", (5 if untaken else 4, row[0]))
    if back not in ("whole", "none", "empty"):
        db.execute("UPDATE pilot SET reason = ? WHERE id = ?", (f"what it brought back cannot be read: {back}"[:500], row[0]))
    if how in ("claimed", "done"):
        return None, False
    return row[1], not untaken and (row[2] is not None or back != "none")


def hear(db: sqlite3.Connection, site: int, batch: Mapping[str, Known]) -> list[int]:
    """Keep what running jobs say of the cards that they took along: it is shown, and nothing is believed for it. The cards of which that is new."""
    cards = []
    for key, known in batch.items():
        told = parse(known.tells)
        if told is None or not told.agent.startswith(key + ".") or len(known.tells) > 1000:
            continue
        row = db.execute(
            "SELECT id, card FROM pilot WHERE key = ? AND site = ? AND bag = 1 AND tells IS NOT ?", (bytes.fromhex(key), site, known.tells)
        ).fetchone()
        if row is not None:
            db.execute("UPDATE pilot SET tells = ? WHERE id = ?", (known.tells, row[0]))
            if told.said:
                cards.append(int(row[1]))
    return cards


def begun(fold: Fold, cards: Iterable[int]) -> None:
    """Tasks of these cards are processing, by their jobs' word. Their attempts stay what the ledger has evidence of: they count when the job ended."""
    fold.load(read_attempts(fold.db, "card", list(cards), "AND live = 1 AND void = 0"))
    for attempt in list(fold.attempts.values()):
        task = fold.tasks[attempt.task]
        if attempt.live and not attempt.void and attempt.state == Attempt.QUEUED and task.state == Task.QUEUED:
            fold.task_event(task, "claimed")

"""Pilots that shall end: who says so, and what is ordered for it (hides that an order may fail, or come too early)."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from icp.ledger.sites import stop
from icp.states import Pilot

__all__ = ["Ending", "drain_of", "endings", "not_ended", "over", "refuse", "withdraw"]


def drain_of(db: sqlite3.Connection, agent: int) -> None:
    """The journal of this agent is damaged: its pilot shall end soon, so that what it holds is done by others."""
    db.execute(
        "UPDATE pilot SET stopping = 1, reason = coalesce(reason, 'the journal of its agent is damaged') "
        "WHERE stopping = 0 AND live = 1 AND id = (SELECT pilot FROM agent WHERE id = ? AND live = 1)",
        (agent,),
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """A pilot whose end is to be ordered now: by a word to its agent, or of its batch system."""

    pilot: str
    drain: bool
    """An agent of it is there, and is told to end when its tasks have."""
    jobs: tuple[str, ...]
    """Batch ids to cancel; empty with ``drain`` False: the id never arrived."""


def endings(db: sqlite3.Connection, site: int) -> list[Ending]:
    """Pilots that shall end (``stopping`` 1), marked as told, and jobs of which there is one too many."""
    found = []
    for pilot, key, state, batch, others, stopping in db.execute(
        # what runs with its card ends by itself, unless nobody wants it
        "SELECT id, key, state, batch, others, CASE WHEN bag = 1 AND state > 2 AND EXISTS (SELECT 1 FROM attempt a WHERE a.card = pilot.card AND a.live = 1 "
        "AND a.stop NOT IN (2, 4)) THEN 0 ELSE stopping END AS stopping FROM pilot WHERE site = ? AND live = 1 AND (stopping = 1 OR others IS NOT NULL) "
        "UNION SELECT id, key, state, batch, others, 0 FROM pilot INDEXED BY pilot_others WHERE site = ? AND live = 0 AND others IS NOT NULL",
        (site, site),
    ).fetchall():
        more = tuple(str(one) for one in json.loads(others or "[]"))
        if stopping != 1 and not more:
            continue
        if stopping != 1:
            found.append(Ending(key.hex(), False, more))
            continue
        agents = db.execute("SELECT count(*) FROM agent WHERE pilot = ? AND live = 1", (pilot,)).fetchone()[0]
        if agents:
            found.append(Ending(key.hex(), True, ()))
            if more:
                found.append(Ending(key.hex(), False, more))
        elif state != Pilot.SUBMITTING or batch:
            found.append(Ending(key.hex(), False, tuple(dict.fromkeys((*((batch,) if batch else ()), *more)))))
        else:
            continue  # nobody knows yet whether there is a job: the listing will tell
        db.execute("UPDATE pilot SET stopping = 2, told = (SELECT observed FROM site WHERE id = ?) WHERE id = ?", (site, pilot))
    return found


def withdraw(db: sqlite3.Connection, site: int, n: int) -> None:
    """The last ``n`` pilots that wait shall end: there is no work for them any more."""
    db.execute(
        "UPDATE pilot SET stopping = 1, reason = 'there was no work for it any more' WHERE id IN (SELECT id FROM pilot p WHERE site = ? AND live = 1 "
        "AND stopping = 0 AND state <= ? AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.pilot = p.id) ORDER BY id DESC LIMIT ?)",
        (site, int(Pilot.PENDING), n),
    )


def not_ended(db: sqlite3.Connection, site: int, key: str) -> None:
    """The order to end a pilot failed: it is given again."""
    db.execute("UPDATE pilot SET stopping = 1 WHERE key = ? AND site = ? AND live = 1 AND stopping = 2", (bytes.fromhex(key), site))


def refuse(db: sqlite3.Connection, site: int, reason: str) -> None:
    """No pilot can be rendered for this site: a person must mend its configuration."""
    stop(db, site, f"no pilot can be submitted: {reason}")


def over(db: sqlite3.Connection, site: int, before: float, limit: int = 500) -> list[str]:
    """Pilots that ended before this moment and of which all was read: their folders go, and each is told once."""
    rows = db.execute(
        "SELECT p.id, p.key FROM pilot p INDEXED BY pilot_over WHERE p.site = ? AND p.live = 0 AND p.dropped = 0 AND p.ended < ? "
        "AND p.bag NOT IN (1, 2, 3) AND NOT EXISTS (SELECT 1 FROM agent g WHERE g.pilot = p.id AND g.live = 1) LIMIT ?",
        (site, before, limit),
    ).fetchall()
    db.executemany("UPDATE pilot SET dropped = 1 WHERE id = ?", [(row[0],) for row in rows])
    return [row[1].hex() for row in rows]

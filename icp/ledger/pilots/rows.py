"""Rows of pilots: made, moved, submitted, and what is to be asked of them (hides their columns)."""

from __future__ import annotations

import sqlite3

from icp.ledger.sites import observed_of, stop
from icp.model.batch import NotSubmitted, Submitted, Unclear
from icp.model.plan import PilotSpec
from icp.states import PILOT, Pilot

__all__ = ["YOUNG", "died_young", "ended_young", "left", "listed", "make_pilot", "pilot_event", "pilots_of", "receipt", "waiting"]

YOUNG = 6
"""Pilots in a row that end before an agent starts, after which a site is paused: a person must look."""
HOLD, LONGEST_HOLD = 30, 3600
"""Seconds without a new pilot after the first early death; doubled by each further one."""


def make_pilot(db: sqlite3.Connection, site: int, key: bytes, spec: PilotSpec, now: float, *, card: int | None = None, bag: bool = False) -> int:
    """A pilot that is in the outbox of the same transaction; ``card``: the one that it is there for, at a site without pilots; ``bag``: which travels
    with its job."""
    observed = observed_of(db, site)
    number = db.execute(
        "INSERT INTO pilot (key, site, state, cpus, memory, gpus, nodes, walltime, made, since, card, bag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key, site, int(PILOT.step(Pilot.PLANNED, "ordered")), spec.cpus or 0, spec.memory or 0, spec.gpus or 0, spec.nodes, spec.walltime, now, observed,
            card, int(bag),
        ),
    ).lastrowid
    assert number is not None
    return number


def pilot_event(db: sqlite3.Connection, pilot: int, event: str, now: float, observed: float, reason: str | None = None) -> bool:
    """Move a pilot; False where its table knows no such move."""
    row = db.execute("SELECT state FROM pilot WHERE id = ?", (pilot,)).fetchone()
    if row is None or not PILOT.knows(Pilot(row[0]), event):
        return False
    before = Pilot(row[0])
    after = Pilot(PILOT.step(before, event))
    if after == before:
        return True
    live = int(after <= Pilot.DRAINING)
    db.execute(
        "UPDATE pilot SET state = ?, live = ?, since = ?, reason = coalesce(?, reason), missing = 0, "
        "started = CASE WHEN ? THEN coalesce(started, ?) ELSE started END, ended = CASE WHEN ? THEN NULL ELSE ? END WHERE id = ?",
        (int(after), live, observed, reason, after == Pilot.RUNNING, now, live, now, pilot),
    )
    return True


def pilots_of(db: sqlite3.Connection, site: int) -> list[tuple[int, bytes, Pilot, str | None]]:
    """(id, key, state, batch id) of the pilots of a site that are live."""
    rows = db.execute("SELECT id, key, state, batch FROM pilot WHERE site = ? AND live = 1", (site,)).fetchall()
    return [(row[0], row[1], Pilot(row[2]), row[3]) for row in rows]


def left(db: sqlite3.Connection, site: int, *, account: bool = True) -> dict[str, str]:
    """pilot (hex) -> batch id of pilots that accounting is to be asked for: live ones that the last listing lacked, it may know how they
    ended; and, if ``account``, ended ones of which it has not told yet what they used.
    """
    rows = db.execute(
        "SELECT key, batch FROM pilot WHERE site = ?1 AND live = 1 AND missing > 0 AND batch IS NOT NULL UNION ALL "
        "SELECT key, batch FROM (SELECT key, batch FROM pilot INDEXED BY pilot_unaccounted "
        "WHERE site = ?1 AND ?2 AND live = 0 AND core_seconds IS NULL AND asked < 5 AND batch IS NOT NULL LIMIT 100)",
        (site, account),
    ).fetchall()
    return {row[0].hex(): str(row[1]) for row in rows}


def receipt(db: sqlite3.Connection, site: int, key: str, meaning: Submitted | NotSubmitted | Unclear, now: float, observed: float) -> None:
    """What became of a submit. Unclear: the pilot stays as it is until a listing shows it."""
    row = db.execute("SELECT id FROM pilot WHERE key = ? AND site = ?", (bytes.fromhex(key), site)).fetchone()
    if row is None:
        return
    if isinstance(meaning, Submitted):
        db.execute("UPDATE pilot SET batch = ? WHERE id = ?", (meaning.job, row[0]))
        pilot_event(db, row[0], "receipt", now, observed)
    elif isinstance(meaning, NotSubmitted):
        why = f"{meaning.why}; {meaning.hint}"
        pilot_event(db, row[0], "refused", now, observed, why)
        if meaning.again:
            died_young(db, site, now, why)
        else:
            stop(db, site, f"no pilot can be submitted: {why}")
    else:
        db.execute("UPDATE pilot SET reason = ? WHERE id = ?", (meaning.why, row[0]))


def died_young(db: sqlite3.Connection, site: int, now: float, why: str, most: int = YOUNG) -> None:
    """A pilot ended before an agent started: the next one waits, and after some in a row the site is paused."""
    db.execute(
        "UPDATE site SET young = young + 1, hold = ? + min(?, ? * (1 << min(young, 7))) WHERE id = ?", (now, LONGEST_HOLD, HOLD, site)
    )
    young, paused = db.execute("SELECT young, paused FROM site WHERE id = ?", (site,)).fetchone()
    if young >= most and paused is None:
        stop(db, site, f"its last {young} pilots ended before an agent started: {why}")


def ended_young(db: sqlite3.Connection, site: int) -> list[str]:
    """Pilots of which no agent was seen and whose job is not listed as alive any more: what they printed last tells why."""
    rows = db.execute(
        "SELECT key FROM pilot p WHERE site = ? AND live = 1 AND missing > 0 AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.pilot = p.id) LIMIT 20", (site,)
    ).fetchall()
    return [row[0].hex() for row in rows]


def listed(db: sqlite3.Connection, site: int) -> bool:
    """Whether the batch system is to be asked: some pilot is live, or a job is left of one that is not."""
    return bool(
        db.execute(
            "SELECT EXISTS (SELECT 1 FROM pilot WHERE site = ? AND live = 1) OR "
            "EXISTS (SELECT 1 FROM pilot INDEXED BY pilot_others WHERE site = ? AND others IS NOT NULL)",
            (site, site),
        ).fetchone()[0]
    )


def waiting(db: sqlite3.Connection) -> bool:
    """Whether some pilot waits in a queue, at whatever site."""
    query = "SELECT 1 FROM pilot INDEXED BY pilot_live WHERE live = 1 AND state <= ? AND stopping < 2 LIMIT 1"
    return db.execute(query, (int(Pilot.PENDING),)).fetchone() is not None

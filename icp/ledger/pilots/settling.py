"""What the batch system says of pilots becomes their states (hides its lies, and what it leaves unsaid)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping

from icp.ledger.pilots.ends import job_over
from icp.ledger.pilots.rows import make_pilot, pilot_event, pilots_of
from icp.ledger.sites import observed_of, stop
from icp.model.batch import Known
from icp.model.plan import PilotSpec
from icp.states import Agent, Pilot

__all__ = ["HOLLOW", "STRANGER", "settle_pilots"]

ABSENT = 900.0
"""Observed seconds after which a pilot without a receipt that no listing shows was never submitted."""
NEVER = 600.0
"""Observed seconds for which the batch system must say that a pilot waits for what never comes: after a restart it says so of all."""
AGAIN = 300.0
"""Observed seconds after which the end of a pilot is ordered again, if its job is still listed."""
STRANGER = "the batch system has a job with a name of this ledger's that this ledger did not submit, or forgot: it is cancelled"
HOLLOW = 60.0
"""Observed seconds after which a batch job all of whose agents have ended is cancelled."""


def settle_pilots(
    db: sqlite3.Connection, site: int, batch: Mapping[str, Known] | None, now: float, margin: float = 600.0, tails: Mapping[str, str] | None = None,
    asked: Iterable[str] = (),
) -> None:  # fmt: skip
    """Move pilots by what the batch system says: pilot (hex) -> Known; ``tails``: the last that those printed that ended young; ``asked``: those
    that accounting was asked for.

    None means that it could not be asked, which tells nothing. A pilot that it does not know counts as missing; two in a
    row count as vanished, and that ends a pilot only when its agents ended too.
    """
    if batch is None:
        return
    batch = {key: known for key, known in batch.items() if _KEY.match(key)}  # a folder among pilots' may have any name
    _account(db, site, batch, asked)
    observed = observed_of(db, site)
    _strangers(db, site, batch, now)
    for pilot, key, state, job in pilots_of(db, site):
        known = batch.get(key.hex(), _ABSENT)
        agents = db.execute("SELECT state, count(*) FROM agent WHERE pilot = ? GROUP BY state", (pilot,)).fetchall()
        _note(db, site, pilot, known, observed, stranger=bool(job) and bool(agents) and known.job != job)
        if known.job and known.word in _ALIVE and not (job and agents):
            # the receipt got lost, or told nothing, or another of its jobs lives on: the listing is better evidence
            db.execute("UPDATE pilot SET batch = ? WHERE id = ?", (known.job, pilot))
        if state == Pilot.SUBMITTING and known.job and known.word != "absent":
            db.execute("UPDATE pilot SET batch = coalesce(batch, ?) WHERE id = ?", (known.job, pilot))
            pilot_event(db, pilot, "receipt", now, observed)
        ended = sum(n for agent, n in agents if agent == Agent.ENDED)
        live = sum(n for agent, n in agents if agent != Agent.ENDED)
        if known.word in ("ended", "absent"):
            db.execute("UPDATE pilot SET missing = missing + 1 WHERE id = ?", (pilot,))
        else:
            db.execute("UPDATE pilot SET missing = 0 WHERE id = ? AND missing > 0 AND ? <> 'unknown'", (pilot, known.word))
        missing, since = db.execute("SELECT missing, since FROM pilot WHERE id = ?", (pilot,)).fetchone()
        said = _last_line((tails or {}).get(key.hex(), ""))
        if known.word == "running":
            pilot_event(db, pilot, "batch_running", now, observed)
        if known.word in _ALIVE:
            if ended and not live:
                _hollow(db, pilot, ended, known.word, now, observed)
        elif known.word == "ended":
            # an agent's last fact, or its first, may have been written behind this answer's listing: the next one has it
            if missing >= 2 or (ended and not live):
                job_over(db, site, pilot, ended, live, known, now, observed, said=said)
        elif known.word == "unknown":
            if not live and (_past_walltime(db, pilot, margin) if ended else _never_began(db, pilot, margin, observed)):
                job_over(db, site, pilot, ended, live, known, now, observed, forgot=True, said=said)
        elif known.word == "absent":
            if state == Pilot.SUBMITTING:
                if missing >= 2 and observed - since > ABSENT:
                    pilot_event(db, pilot, "absent", now, observed, "it was never seen by the batch system")
            elif missing >= 2 and not any(agent == Agent.LIVE for agent, _ in agents):
                # an agent that still talks is better evidence than a batch system that forgot it
                job_over(db, site, pilot, ended, live, known, now, observed, forgot=True, said=said)
    _strays(db, site, batch)


def _account(db: sqlite3.Connection, site: int, batch: Mapping[str, Known], asked: Iterable[str]) -> None:
    """What accounting told of pilots, and that it was asked: it may be minutes late, and after some ticks it has nothing."""
    used = [(known.core_seconds, bytes.fromhex(pilot), site) for pilot, known in batch.items() if known.core_seconds is not None]
    db.executemany("UPDATE pilot SET core_seconds = ? WHERE key = ? AND site = ?", used)
    db.executemany("UPDATE pilot SET asked = asked + 1 WHERE key = ? AND live = 0 AND site = ?", [(bytes.fromhex(one), site) for one in asked])


def _hollow(db: sqlite3.Connection, pilot: int, ended: int, word: str, now: float, observed: float) -> None:
    """All agents of a pilot are over and its batch job lives: its node may have died, which the batch system sees late or never, or an operator
    lets it begin again, and it may wait for that for days."""
    nodes = db.execute("SELECT nodes FROM pilot WHERE id = ?", (pilot,)).fetchone()[0]
    if ended >= nodes and pilot_event(db, pilot, "drain", now, observed):
        reason = "its agents ended, and its batch job " + ("went on" if word == "running" else "waits to begin again")
        db.execute("UPDATE pilot SET stopping = 1, reason = ? WHERE id = ? AND stopping = 0 AND ? > since + ?", (reason, pilot, observed, HOLLOW))


_KEY = re.compile(r"[0-9a-f]{16}\Z")
_ABSENT = Known("absent")
_ALIVE = ("pending", "running")


def _note(db: sqlite3.Connection, site: int, pilot: int, known: Known, observed: float, *, stranger: bool) -> None:
    """Keep the batch system's words, for people and for what they order. ``stranger``: what lives is not the job that its agents came from."""
    more = (*known.others, known.job) if stranger and known.word in _ALIVE else known.others
    others = json.dumps(more) if more else None
    never = known.never or None
    db.execute(
        "UPDATE pilot SET word = ?, said = ?, others = ?, never_since = CASE WHEN ? IS NULL THEN NULL WHEN never IS ? THEN never_since ELSE ? END, never = ? "
        "WHERE id = ?",
        (known.word, known.reason or None, others, never, never, observed, never, pilot),
    )
    if known.ours:
        _give_up(db, site, pilot, known, observed)
    if known.word in _ALIVE:
        # ordered, answered, and it lives on
        db.execute("UPDATE pilot SET stopping = 1 WHERE id = ? AND stopping = 2 AND told < ?", (pilot, observed - AGAIN))


def _give_up(db: sqlite3.Connection, site: int, pilot: int, known: Known, observed: float) -> None:
    """A pilot that waits for what never comes, long enough to believe it, is cancelled; the next would wait as well."""
    since = db.execute("SELECT never_since FROM pilot WHERE id = ?", (pilot,)).fetchone()[0]
    if since is None or observed - since < NEVER:
        return
    name, paused = db.execute("SELECT name, paused FROM site WHERE id = ?", (site,)).fetchone()
    why = f"its pilots would wait for ever ({known.reason}): {known.never.replace('site.NAME', f'site.{name}')}"
    db.execute("UPDATE pilot SET stopping = 1, reason = ? WHERE id = ? AND stopping = 0", (why, pilot))
    if paused is None:
        stop(db, site, why)


def _strangers(db: sqlite3.Connection, site: int, batch: Mapping[str, Known], now: float) -> None:
    """Jobs that live under a name of ours and that no row is of (a restored backup does not know them, or somebody else made them) get a row, and end.

    Not before the next listing: agents of theirs show until then, and are told to finish what they do.
    """
    db.execute("UPDATE pilot SET stopping = 1 WHERE site = ? AND live = 1 AND stopping = 0 AND reason = ? AND word IS NOT NULL", (site, STRANGER))
    known_here = {key.hex() for _, key, _, _ in pilots_of(db, site)}
    for key, known in batch.items():
        if known.word not in _ALIVE or not known.job or key in known_here:
            continue
        if db.execute("SELECT 1 FROM pilot WHERE key = ?", (bytes.fromhex(key),)).fetchone() is None:
            pilot = make_pilot(db, site, bytes.fromhex(key), PilotSpec(), now)
            db.execute("UPDATE pilot SET batch = ?, reason = ? WHERE id = ?", (known.job, STRANGER, pilot))


def _strays(db: sqlite3.Connection, site: int, batch: Mapping[str, Known]) -> None:
    """Jobs that live though their pilot was given up (a batch system that forgot them had them back) are cancelled."""
    rows = db.execute("SELECT id, key FROM pilot INDEXED BY pilot_others WHERE site = ? AND live = 0 AND others IS NOT NULL", (site,)).fetchall()
    for pilot, key in rows:
        known = batch.get(key.hex(), _ABSENT)
        if known.word not in (*_ALIVE, "unknown"):
            db.execute("UPDATE pilot SET others = NULL WHERE id = ?", (pilot,))
    for key, known in batch.items():
        if known.word in _ALIVE and known.job:
            db.execute(
                "UPDATE pilot SET others = ? WHERE key = ? AND site = ? AND live = 0", (json.dumps((known.job, *known.others)), bytes.fromhex(key), site)
            )


def _last_line(text: str) -> str:
    """The last line that says something, fit to be printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:300] if lines else ""


def _never_began(db: sqlite3.Connection, pilot: int, margin: float, observed: float) -> bool:
    """Whether a pilot of which no agent was ever seen would be over by now, had it begun when it was last heard of."""
    since, walltime = db.execute("SELECT since, walltime FROM pilot WHERE id = ?", (pilot,)).fetchone()
    return bool(observed - since > (walltime or 0) + margin)


def _past_walltime(db: sqlite3.Connection, pilot: int, margin: float) -> bool:
    """Whether all its agents must be over by the login node's clock."""
    left = db.execute(
        "SELECT count(*) FROM agent a JOIN site s ON s.id = a.site WHERE a.pilot = ? AND (a.until IS NULL OR a.until + ? >= coalesce(s.remote, 0))",
        (pilot, margin),
    ).fetchone()[0]
    return not left

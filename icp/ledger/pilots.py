"""Rows of pilots: made, submitted, seen by the batch system, ended (hides how what is said becomes a state)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from icp.ledger.sites import agent_event, stop
from icp.model.batch import Known, NotSubmitted, Submitted, Unclear
from icp.model.plan import PilotSpec
from icp.states import PILOT, Agent, Attempt, Pilot

__all__ = [
    "YOUNG", "Ending", "drain_of", "ended_young", "endings", "left", "listed", "make_pilot", "not_ended", "over", "pilot_event", "pilots_of",
    "receipt", "refuse", "settle_pilots", "waiting", "withdraw",
]  # fmt: skip

YOUNG = 6
"""Pilots in a row that end before an agent starts, after which a site is paused: a person must look."""
ABSENT = 900.0
"""Observed seconds after which a pilot without a receipt that no listing shows was never submitted."""
NEVER = 600.0
"""Observed seconds for which the batch system must say that a pilot waits for what never comes: after a restart it says so of all."""
AGAIN = 300.0
"""Observed seconds after which the end of a pilot is ordered again, if its job is still listed."""
NO_PYTHON, NO_PYTHON_TWICE = 127, 2
"""Exit of a pilot that found no Python, and how many of them in a row pause a site: the next will find none either."""
STRANGER = "the batch system has a job with a name of this ledger's that this ledger did not submit, or forgot: it is cancelled"
HOLLOW = 60.0
"""Observed seconds after which a batch job all of whose agents have ended is cancelled."""
HOLD, LONGEST_HOLD = 30, 3600
"""Seconds without a new pilot after the first early death; doubled by each further one."""


def make_pilot(db: sqlite3.Connection, site: int, key: bytes, spec: PilotSpec, now: float, *, card: int | None = None, bag: bool = False) -> int:
    """A pilot that is in the outbox of the same transaction; ``card``: the one that it is there for, at a site without pilots; ``bag``: which travels
    with its job."""
    observed = float(db.execute("SELECT observed FROM site WHERE id = ?", (site,)).fetchone()[0])
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


def _account(db: sqlite3.Connection, site: int, batch: Mapping[str, Known], asked: Iterable[str]) -> None:
    """What accounting told of pilots, and that it was asked: it may be minutes late, and after some ticks it has nothing."""
    used = [(known.core_seconds, bytes.fromhex(pilot), site) for pilot, known in batch.items() if known.core_seconds is not None]
    db.executemany("UPDATE pilot SET core_seconds = ? WHERE key = ? AND site = ?", used)
    db.executemany("UPDATE pilot SET asked = asked + 1 WHERE key = ? AND live = 0 AND site = ?", [(bytes.fromhex(one), site) for one in asked])


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
            _young(db, site, now, why)
        else:
            stop(db, site, f"no pilot can be submitted: {why}")
    else:
        db.execute("UPDATE pilot SET reason = ? WHERE id = ?", (meaning.why, row[0]))


def _young(db: sqlite3.Connection, site: int, now: float, why: str, most: int = YOUNG) -> None:
    """A pilot ended before an agent started: the next one waits, and after some in a row the site is paused."""
    db.execute(
        "UPDATE site SET young = young + 1, hold = ? + min(?, ? * (1 << min(young, 7))) WHERE id = ?", (now, LONGEST_HOLD, HOLD, site)
    )
    young, paused = db.execute("SELECT young, paused FROM site WHERE id = ?", (site,)).fetchone()
    if young >= most and paused is None:
        stop(db, site, f"its last {young} pilots ended before an agent started: {why}")


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
    observed = float(db.execute("SELECT observed FROM site WHERE id = ?", (site,)).fetchone()[0])
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
                _over(db, site, pilot, ended, live, known, now, observed, said=said)
        elif known.word == "unknown":
            if not live and (_past_walltime(db, pilot, margin) if ended else _never_began(db, pilot, margin, observed)):
                _over(db, site, pilot, ended, live, known, now, observed, forgot=True, said=said)
        elif known.word == "absent":
            if state == Pilot.SUBMITTING:
                if missing >= 2 and observed - since > ABSENT:
                    pilot_event(db, pilot, "absent", now, observed, "it was never seen by the batch system")
            elif missing >= 2 and not any(agent == Agent.LIVE for agent, _ in agents):
                # an agent that still talks is better evidence than a batch system that forgot it
                _over(db, site, pilot, ended, live, known, now, observed, forgot=True, said=said)
    _strays(db, site, batch)


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


def _untouched(db: sqlite3.Connection, pilot: int) -> bool:
    """Whether a pilot that was there for one card left it in the inbox, where it is wanted."""
    return bool(
        db.execute(
            "SELECT EXISTS (SELECT 1 FROM pilot WHERE id = ?1 AND bag = 5) OR "
            "EXISTS (SELECT 1 FROM pilot p JOIN attempt a INDEXED BY attempt_live_card ON a.card = p.card "
            "WHERE p.id = ?1 AND a.live = 1 AND a.state = ?2 AND a.stop = 0)",
            (pilot, int(Attempt.QUEUED)),
        ).fetchone()[0]
    )


def _past_walltime(db: sqlite3.Connection, pilot: int, margin: float) -> bool:
    """Whether all its agents must be over by the login node's clock."""
    left = db.execute(
        "SELECT count(*) FROM agent a JOIN site s ON s.id = a.site WHERE a.pilot = ? AND (a.until IS NULL OR a.until + ? >= coalesce(s.remote, 0))",
        (pilot, margin),
    ).fetchone()[0]
    return not left


def _over(db: sqlite3.Connection, site: int, pilot: int, *how: Any, **more: Any) -> None:
    """As ``_batch_end``; but what came back with a job is read before its end counts."""
    bag = db.execute("SELECT bag FROM pilot WHERE id = ?", (pilot,)).fetchone()[0]
    if bag == 1:
        db.execute("UPDATE pilot SET bag = 2 WHERE id = ?", (pilot,))
    elif bag not in (2, 3):
        _batch_end(db, site, pilot, *how, **more)


def _batch_end(
    db: sqlite3.Connection, site: int, pilot: int, ended: int, live: int, known: Known, now: float, observed: float, *,
    forgot: bool = False, said: str = "",
) -> None:  # fmt: skip
    """The batch job is gone (``forgot``: nobody knows how): agents that did not say goodbye are fenced first, then the pilot ends. ``said``: its
    last line."""
    if live:
        db.execute("UPDATE agent SET fence = 1 WHERE pilot = ? AND live = 1 AND fence = 0 AND state IN (0, 1)", (pilot,))
        for (agent,) in db.execute("SELECT id FROM agent WHERE pilot = ? AND state = ?", (pilot, int(Agent.FENCED))).fetchall():
            agent_event(db, agent, "batch_end")
        return
    stopping = db.execute("SELECT stopping FROM pilot WHERE id = ?", (pilot,)).fetchone()[0]
    if stopping:
        pilot_event(db, pilot, "end_ordered", now, observed)
    elif ended:
        # its agent may have died before it could tell that it started
        pilot_event(db, pilot, "batch_running", now, observed)
        mute = db.execute("SELECT count(*) FROM agent WHERE pilot = ? AND fence > 0", (pilot,)).fetchone()[0]
        if not mute:
            pilot_event(db, pilot, "end_clean", now, observed)
        elif forgot:
            pilot_event(db, pilot, "vanished", now, observed, "the batch system does not know it any more, and its agent fell silent")
        else:
            pilot_event(db, pilot, "end_unclean", now, observed, "its batch job ended, and its agent said no last word")
        if not _untouched(db, pilot):
            db.execute("UPDATE site SET young = 0, hold = 0 WHERE id = ?", (site,))
        else:
            how = f": {said}" if said else ""
            db.execute("UPDATE pilot SET reason = coalesce(reason, ?) WHERE id = ?", (f"it ended without having taken its card{how}", pilot))
            _young(db, site, now, f"the last did not take its card{how}")
    else:
        pilot_event(db, pilot, "batch_running", now, observed)
        name = str(db.execute("SELECT name FROM site WHERE id = ?", (site,)).fetchone()[0])
        how = "" if known.exit is None else f" with exit {known.exit}"
        how += f" ({known.reason})" if known.reason else ""
        if forgot and known.word == "absent":
            how += ", and the batch system does not know it any more"
        last = f": {said.replace('site.NAME', f'site.{name}')}" if said else ""
        # without accounting the exit is not known, but the pilot itself says it
        python = known.exit == NO_PYTHON or "no Python" in said
        if python and not last:
            last = f": no Python was found there; set site.{name}.python or site.{name}.modules"
        pilot_event(db, pilot, "end_unclean", now, observed, f"it ended{how} before an agent started{last}")
        _young(db, site, now, f"the last ended{how}{last}", NO_PYTHON_TWICE if python else YOUNG)


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


def withdraw(db: sqlite3.Connection, site: int, n: int) -> None:
    """The last ``n`` pilots that wait shall end: there is no work for them any more."""
    db.execute(
        "UPDATE pilot SET stopping = 1, reason = 'there was no work for it any more' WHERE id IN (SELECT id FROM pilot p WHERE site = ? AND live = 1 "
        "AND stopping = 0 AND state <= ? AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.pilot = p.id) ORDER BY id DESC LIMIT ?)",
        (site, int(Pilot.PENDING), n),
    )


def waiting(db: sqlite3.Connection) -> bool:
    """Whether some pilot waits in a queue, at whatever site."""
    query = "SELECT 1 FROM pilot INDEXED BY pilot_live WHERE live = 1 AND state <= ? AND stopping < 2 LIMIT 1"
    return db.execute(query, (int(Pilot.PENDING),)).fetchone() is not None


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

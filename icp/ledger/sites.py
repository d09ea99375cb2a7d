"""Rows of sites, pilots, agents and streams, and their timeouts in observed time (hides how silence becomes a state)."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from icp.ledger.db import Ledger
from icp.model.plan import Policy
from icp.states import AGENT, PILOT, Agent, Attempt, Pilot

__all__ = [
    "agent_event",
    "agent_row",
    "anything_there",
    "at_work",
    "drain_of",
    "ended_by_clock",
    "ensure_site",
    "fenced",
    "fences",
    "in_no_place",
    "make_pilot",
    "overdue",
    "pilot_event",
    "pilots_of",
    "pilots_to_end",
    "positions",
    "read_streams",
    "settle_pilots",
    "silence",
    "standing",
    "started",
    "unreachable",
]


def ensure_site(ledger: Ledger, name: str, zone: str) -> int:
    """The number of a site, made when it is new."""
    row = ledger.db.execute("SELECT id FROM site WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return int(row[0])
    number = ledger.db.execute("INSERT INTO site (name, zone) VALUES (?, ?)", (name, ledger.name_id(zone))).lastrowid
    assert number is not None
    return number


def make_pilot(db: sqlite3.Connection, site: int, key: bytes, *, cpus: int, memory: int, gpus: int, nodes: int, walltime: int | None, now: float) -> int:
    """A pilot that is in the outbox of the same transaction."""
    observed = float(db.execute("SELECT observed FROM site WHERE id = ?", (site,)).fetchone()[0])
    number = db.execute(
        "INSERT INTO pilot (key, site, state, cpus, memory, gpus, nodes, walltime, made, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (key, site, int(PILOT.step(Pilot.PLANNED, "ordered")), cpus, memory, gpus, nodes, walltime, now, observed),
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


def agent_event(db: sqlite3.Connection, agent: int, event: str) -> bool:
    """Move an agent; False where its table knows no such move."""
    row = db.execute("SELECT state FROM agent WHERE id = ?", (agent,)).fetchone()
    if row is None or not AGENT.knows(Agent(row[0]), event):
        return False
    after = Agent(AGENT.step(Agent(row[0]), event))
    if after != row[0]:
        db.execute("UPDATE agent SET state = ?, live = ? WHERE id = ?", (int(after), int(after != Agent.ENDED), agent))
    return True


def agent_row(ledger: Ledger, site: int, name: str) -> tuple[int, Agent] | None:
    """The row of an agent that the site's spool shows, made when it is new; None when its pilot is not one of ours."""
    db = ledger.db
    row = db.execute("SELECT id, state FROM agent WHERE name = ? AND site = ?", (name, site)).fetchone()
    if row is not None:
        return int(row[0]), Agent(row[1])
    try:
        key = bytes.fromhex(name.split(".", 1)[0])
    except ValueError:
        return None
    pilot = db.execute("SELECT id FROM pilot WHERE key = ? AND site = ?", (key, site)).fetchone()
    if pilot is None:
        return None
    number = db.execute("INSERT INTO agent (name, pilot, site) VALUES (?, ?, ?)", (name, pilot[0], site)).lastrowid
    assert number is not None
    for kind in ("journal", "supervisor"):
        db.execute("INSERT INTO stream (agent, kind) VALUES (?, ?)", (number, kind))
    return number, Agent.LIVE


def started(ledger: Ledger, agent: int, fact: dict[str, Any]) -> None:
    """Keep what an agent said of its node; TypeError, ValueError or OverflowError where a field is not what the format says."""
    ledger.db.execute(
        "UPDATE agent SET host = ?, started = ?, until = ?, cpus = ?, memory = ?, disk = ?, gpus = ?, attrs = ? WHERE id = ?",
        (
            ledger.name_id(str(fact.get("host", "?"))[:200]), _moment(fact.get("t")), _moment(fact.get("end")), int(fact.get("cpus") or 0),
            int(fact.get("memory") or 0), int(fact.get("disk") or 0), int(fact.get("gpus") or 0),
            json.dumps(fact.get("attrs") or {}, separators=(",", ":")), agent,
        ),
    )  # fmt: skip


def _moment(value: Any) -> float | None:
    return None if value is None else float(value)


def pilots_of(db: sqlite3.Connection, site: int) -> list[tuple[int, bytes, Pilot, str | None]]:
    """(id, key, state, batch id) of the pilots of a site that are live."""
    rows = db.execute("SELECT id, key, state, batch FROM pilot WHERE site = ? AND live = 1", (site,)).fetchall()
    return [(row[0], row[1], Pilot(row[2]), row[3]) for row in rows]


def settle_pilots(db: sqlite3.Connection, site: int, batch: dict[str, tuple[str, int | None]] | None, now: float, margin: float = 600.0) -> None:
    """Move pilots by what the batch system says: pilot key (hex) -> (``pending`` | ``running`` | ``ended`` | ``unknown``, exit).

    None means that it could not be asked, which tells nothing. A pilot that it does not know counts as missing; two in a
    row count as vanished, and that ends a pilot only when its agents ended too.
    """
    if batch is None:
        return
    observed = float(db.execute("SELECT observed FROM site WHERE id = ?", (site,)).fetchone()[0])
    for pilot, key, state, _ in pilots_of(db, site):
        word, exit_ = batch.get(key.hex(), ("absent", None))
        agents = db.execute("SELECT state, count(*) FROM agent WHERE pilot = ? GROUP BY state", (pilot,)).fetchall()
        ended = sum(n for agent, n in agents if agent == Agent.ENDED)
        live = sum(n for agent, n in agents if agent != Agent.ENDED)
        if word == "running":
            pilot_event(db, pilot, "batch_running", now, observed)
        elif word == "ended":
            db.execute("UPDATE pilot SET missing = missing + 1 WHERE id = ?", (pilot,))
            seen = int(db.execute("SELECT missing FROM pilot WHERE id = ?", (pilot,)).fetchone()[0])
            # an agent's last fact may have been written behind this answer's listing: the next one has it
            if not live or seen >= 2:
                _batch_end(db, site, pilot, ended, live, exit_, now, observed)
        elif word == "unknown" and ended and not live and _past_walltime(db, pilot, margin):
            _batch_end(db, site, pilot, ended, live, None, now, observed, forgot=True)
        elif word == "absent":
            db.execute("UPDATE pilot SET missing = missing + 1 WHERE id = ?", (pilot,))
            missing, since = db.execute("SELECT missing, since FROM pilot WHERE id = ?", (pilot,)).fetchone()
            if state == Pilot.SUBMITTING:
                if missing >= 2 and observed - since > 900:
                    pilot_event(db, pilot, "absent", now, observed, "it was never seen by the batch system")
            elif missing >= 2 and not any(agent == Agent.LIVE for agent, _ in agents):
                # an agent that still talks is better evidence than a batch system that forgot it
                _batch_end(db, site, pilot, ended, live, None, now, observed, forgot=True)


def _past_walltime(db: sqlite3.Connection, pilot: int, margin: float) -> bool:
    """Whether all its agents must be over by the login node's clock."""
    left = db.execute(
        "SELECT count(*) FROM agent a JOIN site s ON s.id = a.site WHERE a.pilot = ? AND (a.until IS NULL OR a.until + ? >= coalesce(s.remote, 0))",
        (pilot, margin),
    ).fetchone()[0]
    return not left


def _batch_end(
    db: sqlite3.Connection, site: int, pilot: int, ended: int, live: int, exit_: int | None, now: float, observed: float, *, forgot: bool = False
) -> None:
    """The batch job is gone (``forgot``: nobody knows how): agents that did not say goodbye are fenced first, then the pilot ends."""
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
        db.execute("UPDATE site SET young = 0, hold = 0 WHERE id = ?", (site,))
    else:
        pilot_event(db, pilot, "batch_running", now, observed)
        said = "" if exit_ is None else f" with exit {exit_}"
        pilot_event(db, pilot, "end_unclean", now, observed, f"it ended{said} before an agent started")
        db.execute("UPDATE site SET young = young + 1, hold = ? + min(3600, 30 * (1 << min(young, 7))) WHERE id = ?", (now, site))


def silence(db: sqlite3.Connection, site: int, gap: float, policy: Policy) -> None:
    """Between two exchanges no agent of the site that is not in ``grew`` said anything: count it, and suspect the silent."""
    db.execute("UPDATE agent SET silent = silent + ? WHERE site = ? AND live = 1", (gap, site))
    for (agent,) in db.execute("SELECT id FROM agent WHERE site = ? AND live = 1 AND state = 0 AND silent > ?", (site, policy.silent)).fetchall():
        agent_event(db, agent, "silent")


def fences(db: sqlite3.Connection, site: int, policy: Policy) -> list[str]:
    """Agents to fence now, marked as told: whose batch job ended, or suspect and past their walltime by the login node's clock."""
    remote = db.execute("SELECT remote FROM site WHERE id = ?", (site,)).fetchone()[0]
    if remote is None:
        return []
    db.execute(
        "UPDATE agent SET fence = 1 WHERE site = ? AND live = 1 AND state = ? AND fence = 0 AND until IS NOT NULL AND until + ? < ?",
        (site, int(Agent.SUSPECT), policy.margin, remote),
    )
    rows = db.execute("SELECT id, name FROM agent WHERE site = ? AND live = 1 AND fence = 1 AND state IN (0, 1)", (site,)).fetchall()
    db.executemany("UPDATE agent SET fence = 2 WHERE id = ?", [(row[0],) for row in rows])
    return [str(row[1]) for row in rows]


def overdue(db: sqlite3.Connection, site: int, observed: float, policy: Policy) -> None:
    """Timeouts of attempts in observed time: queued too long is recalled, claimed or copying too long is cancelled, then fenced."""
    limits = (
        ((Attempt.QUEUED,), policy.queued, 1),
        ((Attempt.CLAIMED,), policy.claimed, 2),
        ((Attempt.COPYING_INPUT, Attempt.COPYING_OUTPUT), policy.copying, 2),
    )
    for states, limit, stop in limits:
        for state in states:
            db.execute(
                # a recall that came too late (3) is no reason not to cancel
                f"UPDATE attempt SET stop = ? WHERE site = ? AND live = 1 AND state = ? AND stop IN ({'0' if stop == 1 else '0, 1, 3'}) AND since < ?",
                (stop, site, int(state), observed - limit),
            )
            if state != Attempt.QUEUED:
                db.execute(
                    "UPDATE agent SET fence = 1 WHERE fence = 0 AND live = 1 AND state IN (0, 1) AND id IN "
                    "(SELECT agent FROM attempt WHERE site = ? AND live = 1 AND state = ? AND stop = 4 AND since < ?)",
                    (site, int(state), observed - 2 * limit),
                )


def ended_by_clock(db: sqlite3.Connection, site: int, policy: Policy) -> None:
    """Fenced agents past their walltime and the margin are over, whatever the batch system says or does not say."""
    rows = db.execute(
        "SELECT a.id FROM agent a JOIN site s ON s.id = a.site WHERE a.site = ? AND a.live = 1 AND a.state = ? AND a.until + ? < s.remote",
        (site, int(Agent.FENCED), policy.margin),
    ).fetchall()
    for (agent,) in rows:
        agent_event(db, agent, "batch_end")


def in_no_place(db: sqlite3.Connection, site: int, observed: float, policy: Policy) -> list[int]:
    """Attempts whose card was asked back, is not in the inbox, and was seen with no agent for as long again: the spool lost it."""
    rows = db.execute(
        "SELECT id FROM attempt WHERE site = ? AND live = 1 AND state = ? AND stop IN (3, 4) AND since < ?",
        (site, int(Attempt.QUEUED), observed - 2 * policy.queued),
    ).fetchall()
    return [int(row[0]) for row in rows]


def unreachable(db: sqlite3.Connection, site: int, why: str, now: float) -> None:
    """A site did not answer: nothing else changes, nothing ages."""
    db.execute(
        "UPDATE site SET tried = ?, unreachable = coalesce(unreachable, ?), failures = failures + 1, reason = ? WHERE id = ?", (now, now, why, site)
    )


def positions(db: sqlite3.Connection, site: int) -> dict[str, tuple[int, int, int]]:
    """How far each stream of each agent at a site was read, by ``agent/stream``; of ended ones too while they are not acknowledged."""
    rows = db.execute(
        "SELECT a.name, s.kind, s.segment, s.offset, s.seq FROM agent a JOIN stream s ON s.agent = a.id WHERE a.site = ? AND (a.live = 1 OR s.acked = 0)",
        (site,),
    ).fetchall()
    return {f"{row[0]}/{row[1]}": (row[2], row[3], row[4]) for row in rows}


def fenced(db: sqlite3.Connection, site: int) -> list[str]:
    """Agents that are fenced and whose end is not known."""
    rows = db.execute("SELECT name FROM agent WHERE site = ? AND live = 1 AND state = ?", (site, int(Agent.FENCED))).fetchall()
    return [str(row[0]) for row in rows]


def read_streams(db: sqlite3.Connection, site: int, before: float) -> list[tuple[str, str, int]]:
    """(agent, stream, segment) of ended agents' streams that were read through before this moment, marked as acknowledged."""
    rows = db.execute(
        "SELECT a.id, a.name, s.kind, s.segment FROM agent a JOIN stream s ON s.agent = a.id "
        "WHERE a.site = ? AND a.live = 0 AND s.acked = 0 AND coalesce(s.read, a.seen, 0) < ? LIMIT 1000",
        (site, before),
    ).fetchall()
    db.executemany("UPDATE stream SET acked = 1 WHERE agent = ? AND kind = ?", [(row[0], row[2]) for row in rows])
    return [(row[1], row[2], row[3]) for row in rows]


def drain_of(db: sqlite3.Connection, agent: int) -> None:
    """The journal of this agent is damaged: its pilot shall end soon, so that what it holds is done by others."""
    db.execute(
        "UPDATE pilot SET stopping = 1, reason = coalesce(reason, 'the journal of its agent is damaged') "
        "WHERE stopping = 0 AND live = 1 AND id = (SELECT pilot FROM agent WHERE id = ? AND live = 1)",
        (agent,),
    )


def pilots_to_end(db: sqlite3.Connection, site: int) -> list[str]:
    """Pilots that shall drain (``stopping`` 1), marked as told."""
    rows = db.execute("SELECT id, key FROM pilot WHERE site = ? AND live = 1 AND stopping = 1", (site,)).fetchall()
    db.executemany("UPDATE pilot SET stopping = 2 WHERE id = ?", [(row[0],) for row in rows])
    return [row[1].hex() for row in rows]


def anything_there(db: sqlite3.Connection, site: int) -> bool:
    """Whether something of ours is at a site or on its way there or home: if not, it need not be asked."""
    queries = (
        "SELECT 1 FROM attempt WHERE live = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM pilot WHERE live = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM agent WHERE live = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM outbox WHERE site = ?",
        "SELECT 1 FROM replica WHERE dropping = 1 AND site = ? LIMIT 1",
    )
    if any(db.execute(query, (site,)).fetchone() for query in queries):
        return True
    return bool(
        db.execute(
            "SELECT 1 FROM file f INDEXED BY file_wanted JOIN attempt a ON a.id = f.attempt "
            "WHERE f.live = 1 AND f.kept = 1 AND f.state IN (0, 1, 2) AND a.site = ? LIMIT 1",
            (site,),
        ).fetchone()
    )


def standing(db: sqlite3.Connection, site: int) -> tuple[int, int]:
    """(last answered serial, epoch) of a site."""
    row = db.execute("SELECT serial, epoch FROM site WHERE id = ?", (site,)).fetchone()
    return int(row[0]), int(row[1])


def at_work(db: sqlite3.Connection, site: int) -> int:
    """Attempts that are live at a site."""
    return int(db.execute("SELECT count(*) FROM attempt WHERE site = ? AND live = 1", (site,)).fetchone()[0])

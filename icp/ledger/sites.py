"""Rows of sites, agents and streams, and their timeouts in observed time (hides how silence becomes a state)."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from icp.ledger import notices
from icp.ledger.db import Ledger
from icp.ledger.facts import text
from icp.model.plan import Policy
from icp.states import AGENT, Agent, Attempt

__all__ = [
    "agent_event",
    "agent_row",
    "anything_there",
    "asked_after",
    "ended_by_clock",
    "ensure_site",
    "fenced",
    "fences",
    "left_idle",
    "number_of",
    "observed_of",
    "orders_of",
    "overdue",
    "pause",
    "positions",
    "put_back",
    "read_streams",
    "resume",
    "silence",
    "sought",
    "standing",
    "started",
    "stop",
    "unreachable",
]


def ensure_site(ledger: Ledger, name: str, zone: str) -> int:
    """The number of a site, made when it is new."""
    row = ledger.db.execute("SELECT id, gone FROM site WHERE name = ?", (name,)).fetchone()
    if row is not None:
        if row[1] is not None:
            ledger.db.execute("UPDATE site SET gone = NULL, paused = NULL, zone = ? WHERE id = ?", (ledger.name_id(zone), row[0]))
        return int(row[0])
    number = ledger.db.execute("INSERT INTO site (name, zone) VALUES (?, ?)", (name, ledger.name_id(zone))).lastrowid
    assert number is not None
    return number


def number_of(db: sqlite3.Connection, name: str) -> int | None:
    """The number of a site that the ledger has met and that was not removed."""
    row = db.execute("SELECT id FROM site WHERE name = ? AND gone IS NULL", (name,)).fetchone()
    return None if row is None else int(row[0])


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


def platforms(db: sqlite3.Connection, site: int) -> list[str]:
    """The platforms of the nodes that a site had last."""
    rows = db.execute("SELECT attrs FROM agent INDEXED BY agent_site WHERE site = ? AND started IS NOT NULL ORDER BY id DESC LIMIT 20", (site,)).fetchall()
    found = {json.loads(row[0]).get("Platform") for row in rows}
    return sorted(one for one in found if isinstance(one, str))


def software_found(db: sqlite3.Connection, agent: int, fact: dict[str, Any]) -> None:
    """What an agent found out about one environment on its node: how it comes by it or why it cannot, and what it tried in vain."""
    known = json.loads(db.execute("SELECT software FROM agent WHERE id = ?", (agent,)).fetchone()[0] or "{}")
    known[text(fact["name"])[:100]] = {key: fact[key] for key in ("had", "why", "vain") if key in fact}
    said = text(json.dumps(known, separators=(",", ":"), sort_keys=True))
    if len(said) <= 20_000:
        db.execute("UPDATE agent SET software = ? WHERE id = ?", (said, agent))


def _moment(value: Any) -> float | None:
    return None if value is None else float(value)


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


def observed_of(db: sqlite3.Connection, site: int) -> float:
    """Seconds for which this ledger has observed a site: what its timeouts are counted in."""
    return float(db.execute("SELECT observed FROM site WHERE id = ?", (site,)).fetchone()[0])


def overdue(db: sqlite3.Connection, site: int, observed: float, policy: Policy) -> None:
    """Timeouts of attempts in observed time: queued too long is recalled, claimed or copying too long is cancelled, then fenced.

    A card that has a batch job of its own waits as long as that does in its queue, and is over when that is.
    """
    limits = (
        ((Attempt.QUEUED,), policy.queued, 1),
        ((Attempt.CLAIMED,), policy.claimed, 2),
        ((Attempt.COPYING_INPUT, Attempt.COPYING_OUTPUT), policy.copying, 2),
    )
    for states, limit, stop in limits:
        for state in states:
            db.execute(
                # a recall that came too late (3) is no reason not to cancel
                f"UPDATE attempt SET stop = ? WHERE site = ? AND live = 1 AND state = ? AND stop IN ({'0' if stop == 1 else '0, 1, 3'}) AND since < ?"
                + (" AND NOT EXISTS (SELECT 1 FROM pilot p WHERE p.card = attempt.card AND p.live = 1)" if state <= Attempt.CLAIMED else ""),
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


VAIN = 3
"""Agents in a row that leave without having found a card, after which the cards that they should have found are asked back."""


def left_idle(db: sqlite3.Connection, site: int, agent: int) -> None:
    """An agent left for want of work. Where several in a row found none though cards wait there, those cards are not where they should be."""
    claims, pilot, own = db.execute("SELECT g.claims, g.pilot, p.card FROM agent g JOIN pilot p ON p.id = g.pilot WHERE g.id = ?", (agent,)).fetchone()
    if own is not None:
        return  # it was there for one card, and saw no other
    if claims:
        db.execute("UPDATE site SET vain = 0 WHERE id = ?", (site,))
        return
    db.execute("UPDATE site SET vain = vain + 1 WHERE id = ?", (site,))
    if db.execute("SELECT vain FROM site WHERE id = ?", (site,)).fetchone()[0] >= VAIN:
        db.execute("UPDATE site SET vain = 0 WHERE id = ?", (site,))
        db.execute(
            # what was sent there before that pilot ran, it should have seen
            "UPDATE attempt SET stop = 1 WHERE site = ? AND live = 1 AND state = ? AND stop = 0 AND since < (SELECT since FROM pilot WHERE id = ?)",
            (site, int(Attempt.QUEUED), pilot),
        )


def sought(db: sqlite3.Connection, attempt: int) -> int:
    """The card of a queued attempt was asked back and found nowhere: how often by now. It is asked back again; but one that travels with its job is."""
    if db.execute("SELECT 1 FROM attempt a JOIN pilot p ON p.card = a.card WHERE a.id = ? AND p.bag IN (1, 2, 3)", (attempt,)).fetchone():
        return 0
    db.execute("UPDATE attempt SET sought = sought + 1, stop = CASE WHEN stop IN (3, 4) THEN stop - 2 ELSE stop END WHERE id = ?", (attempt,))
    return int(db.execute("SELECT sought FROM attempt WHERE id = ?", (attempt,)).fetchone()[0])


def unreachable(db: sqlite3.Connection, site: int, why: str, now: float, *, login: bool = False) -> None:
    """A site did not answer: nothing else changes, nothing ages. ``login``: it lets only a person in."""
    name, known = db.execute("SELECT name, login FROM site WHERE id = ?", (site,)).fetchone()
    if login and known is None:
        notices.add(db, "login", f"site {name} needs a login: `icp login {name}`", site=site, at=now)
        # until it answers: one event, whatever else fails meanwhile
        db.execute("UPDATE site SET login = ? WHERE id = ?", (now, site))
    db.execute(
        "UPDATE site SET tried = ?, unreachable = coalesce(unreachable, ?), failures = failures + 1, reason = ? WHERE id = ?", (now, now, why, site)
    )


def mute(db: sqlite3.Connection, site: int, why: str) -> None:
    """It answered, and its batch system did not: nothing is believed of its pilots. The next answer forgets this."""
    db.execute("UPDATE site SET reason = ? WHERE id = ?", (why, site))


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


def anything_there(db: sqlite3.Connection, site: int) -> bool:
    """Whether something of ours is at a site or on its way there or home: if not, it need not be asked."""
    queries = (
        "SELECT 1 FROM attempt WHERE live = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM pilot WHERE live = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM pilot INDEXED BY pilot_others WHERE others IS NOT NULL AND site = ? LIMIT 1",
        "SELECT 1 FROM pilot INDEXED BY pilot_bag WHERE bag IN (1, 2, 3) AND site = ? LIMIT 1",
        "SELECT 1 FROM agent WHERE live = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM outbox WHERE site = ?",
        "SELECT 1 FROM replica WHERE dropping = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM cached WHERE dropping = 1 AND site = ? LIMIT 1",
        "SELECT 1 FROM sending WHERE site = ? LIMIT 1",
        "SELECT 1 FROM file f INDEXED BY file_relaying JOIN attempt a ON a.id = f.attempt "
        "WHERE f.live = 1 AND f.kept = 0 AND f.state = 1 AND a.site = ? LIMIT 1",
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


def asked_after(db: sqlite3.Connection, site: int) -> bool:
    """Whether a site that did not answer is wanted back: some dataset is at work, and could use it."""
    row = db.execute("SELECT 1 FROM site WHERE id = ? AND unreachable IS NOT NULL AND paused IS NULL", (site,)).fetchone()
    if row is None:
        return False
    return db.execute("SELECT 1 FROM dataset INDEXED BY dataset_active WHERE deleted IS NULL AND state IN (0, 1) LIMIT 1").fetchone() is not None


def pause(db: sqlite3.Connection, site: int, reason: str, *, drain: bool = False) -> None:
    """No cards and no pilots from now on; ``drain``: what waits there is called back too, and its pilots end when their tasks have."""
    db.execute("UPDATE site SET paused = ?, draining = max(draining, ?) WHERE id = ?", (reason, drain, site))
    if drain:
        db.execute("UPDATE attempt SET stop = 1 WHERE site = ? AND live = 1 AND state = ? AND stop = 0", (site, int(Attempt.QUEUED)))
        db.execute("UPDATE pilot SET stopping = 1 WHERE site = ? AND live = 1 AND stopping = 0", (site,))


def stop(db: sqlite3.Connection, site: int, why: str) -> None:
    """The engine pauses a site: somebody has to look at it."""
    name, paused = db.execute("SELECT name, paused FROM site WHERE id = ?", (site,)).fetchone()
    pause(db, site, why)
    if paused is None:
        notices.add(db, "paused", f"site {name} is paused: {why}; then `icp site resume {name}`", site=site)


def resume(db: sqlite3.Connection, site: int) -> None:
    """A paused or drained site takes work again, and its pilots' early deaths are forgotten."""
    db.execute("UPDATE site SET paused = NULL, draining = 0, young = 0, hold = 0 WHERE id = ?", (site,))


def orders_of(db: sqlite3.Connection, site: int) -> tuple[str | None, int]:
    """(why it is paused, whether it drains)."""
    row = db.execute("SELECT paused, draining FROM site WHERE id = ?", (site,)).fetchone()
    return row[0], int(row[1])


def put_back(db: sqlite3.Connection, site: int, orders: tuple[str | None, int]) -> None:
    """What a person wanted did not come to pass: as it was before, by ``orders_of``."""
    db.execute("UPDATE site SET paused = ?, draining = ? WHERE id = ?", (*orders, site))


def standing(db: sqlite3.Connection, site: int) -> tuple[int, int]:
    """(last answered serial, epoch) of a site."""
    row = db.execute("SELECT serial, epoch FROM site WHERE id = ?", (site,)).fetchone()
    return int(row[0]), int(row[1])

"""A site goes: what of ours is still at work there, and what the ledger forgets with it (hides which tables know the site)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from icp.ledger.db import Ledger
from icp.ledger.files import lost
from icp.ledger.fold import Fold
from icp.ledger.pilots import pilot_event
from icp.ledger.rows import read_attempts
from icp.ledger.sites import agent_event, anything_there, observed_of
from icp.states import Agent, Pilot

__all__ = ["AtWork", "at_work", "forget", "forget_spool", "give_up"]


@dataclass(frozen=True, slots=True)
class AtWork:
    """What of ours is at a site, in numbers."""

    attempts: int
    pilots: int
    agents: int
    coming: int
    """Outputs that are wanted at home, and are not there yet."""
    orders: bool
    """Orders are not answered yet, or outputs there not yet removed."""
    needed: int
    """Outputs that lie only there, and that tasks will read."""

    @property
    def idle(self) -> bool:
        """Nothing happens there any more, and no order would change that."""
        return not (self.attempts or self.pilots or self.agents or self.coming or self.orders)

    @property
    def nothing(self) -> bool:
        return self.idle and not self.needed


_ONLY_THERE = (
    "SELECT f.id, f.kept OR f.state = 1 FROM replica r JOIN file f ON f.attempt = r.attempt "
    "WHERE r.site = ? AND r.dropping = 0 AND f.live = 1 AND f.state IN (0, 1, 2) "
    "AND NOT EXISTS (SELECT 1 FROM replica o WHERE o.attempt = r.attempt AND o.site <> r.site AND o.dropping = 0)"
)


def at_work(db: sqlite3.Connection, site: int) -> AtWork:
    """Counted from the rows: for a person who wants to be rid of a site."""

    def live(table: str) -> int:
        return int(db.execute(f"SELECT count(*) FROM {table} WHERE live = 1 AND site = ?", (site,)).fetchone()[0])

    wanted = [bool(row[1]) for row in db.execute(_ONLY_THERE, (site,)).fetchall()]
    counts = (live("attempt"), live("pilot"), live("agent"), sum(wanted))
    return AtWork(*counts, orders=not any(counts) and anything_there(db, site), needed=len(wanted) - sum(wanted))


def give_up(fold: Fold, site: int, now: float) -> None:
    """The host is gone for good, as a person says: what was there is lost, and is done elsewhere; nothing from there counts any more."""
    db = fold.db
    numbers = [row[0] for row in db.execute("SELECT id FROM attempt WHERE site = ? AND live = 1", (site,)).fetchall()]
    for row in read_attempts(db, "id", numbers):
        fold.load([row])
        fold.ended(fold.attempts[row.id], "gone")
    fold.flush()
    for file, _ in db.execute(_ONLY_THERE, (site,)).fetchall():
        lost(fold, file)
    fold.flush()
    for (agent,) in db.execute("SELECT id FROM agent WHERE site = ? AND live = 1", (site,)).fetchall():
        state = db.execute("SELECT state FROM agent WHERE id = ?", (agent,)).fetchone()[0]
        if state != Agent.FENCED:
            agent_event(db, agent, "fenced")
        agent_event(db, agent, "batch_end")
    observed = observed_of(db, site)
    for pilot, state in db.execute("SELECT id, state FROM pilot WHERE site = ? AND live = 1", (site,)).fetchall():
        pilot_event(db, pilot, "cancel" if state == Pilot.PLANNED else "end_ordered", now, observed, "its site was removed")
    for table in ("outbox", "sending"):
        db.execute(f"DELETE FROM {table} WHERE site = ?", (site,))


def forget(ledger: Ledger, site: int, name: str, now: float, *, kept: bool) -> None:
    """From now on it is no site: its rows stay for what was done there. ``kept``: its spool stays, and so does what is known of that."""
    db = ledger.db
    db.execute(
        "UPDATE site SET gone = ?, paused = 'it was removed', draining = 0, "
        "young = 0, hold = 0, unreachable = NULL, login = NULL, failures = 0, reason = NULL WHERE id = ?",
        (now, site),
    )
    if not kept:
        forget_spool(ledger, site, name)


def forget_spool(ledger: Ledger, site: int, name: str) -> None:
    """The spool is gone, or another one takes its place: nothing lies there, and the next one begins anew. Only where nothing is at work."""
    db = ledger.db
    db.execute("UPDATE site SET serial = 0, epoch = 1 WHERE id = ?", (site,))
    for table in ("replica", "cached", "cached_for"):
        db.execute(f"DELETE FROM {table} WHERE site = ?", (site,))
    db.execute("UPDATE stream SET acked = 1 WHERE acked = 0 AND agent IN (SELECT id FROM agent WHERE site = ?)", (site,))
    db.execute("DELETE FROM meta WHERE key = ?", (f"root:{name}",))

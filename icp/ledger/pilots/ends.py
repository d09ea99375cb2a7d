"""The end of a pilot's batch job: what it means, and when it counts (hides what is held against a site)."""

from __future__ import annotations

import sqlite3
from typing import Any

from icp.ledger.pilots.rows import YOUNG, died_young, pilot_event
from icp.ledger.sites import agent_event
from icp.model.batch import Known
from icp.states import Agent, Attempt

__all__ = ["job_over"]

NO_PYTHON, NO_PYTHON_TWICE = 127, 2
"""Exit of a pilot that found no Python, and how many of them in a row pause a site: the next will find none either."""


def job_over(db: sqlite3.Connection, site: int, pilot: int, *how: Any, **more: Any) -> None:
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
            died_young(db, site, now, f"the last did not take its card{how}")
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
        died_young(db, site, now, f"the last ended{how}{last}", NO_PYTHON_TWICE if python else YOUNG)


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

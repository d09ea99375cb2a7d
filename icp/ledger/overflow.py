"""Which jobs of a pool are taken over, how far each is, and how it stands with them here (hides the columns)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from icp.ledger.files import home_path
from icp.states import Dataset, File, Task

__all__ = ["ENDS", "Standing", "Taken", "counts", "ended", "forget", "live", "move", "place", "standing", "want"]

ENDS = ("removed", "released", "gone")


@dataclass(frozen=True, slots=True)
class Taken:
    """One job of a pool that is, or was, taken over."""

    id: int
    cluster: int
    proc: int
    queued: int
    state: str
    dataset: int | None
    job: int | None
    ad: Mapping[str, Any]
    why: str | None

    @property
    def key(self) -> tuple[int, int]:
        return self.cluster, self.proc


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands here: ``working``, ``done`` (its files are home), ``failed``, ``cancelled``."""

    word: str
    why: str = ""
    files: tuple[tuple[str, str], ...] = ()
    """(name, path here)"""


_COLUMNS = "id, cluster, proc, queued, state, dataset, job, ad, why"


def _taken(row: tuple[Any, ...]) -> Taken:
    number, cluster, proc, queued, state, dataset, job, ad, why = row
    return Taken(number, cluster, proc, queued, state, dataset, job, json.loads(ad), why)


def live(db: sqlite3.Connection, pool: str) -> list[Taken]:
    """Those that have not come to an end."""
    return [_taken(row) for row in db.execute(f"SELECT {_COLUMNS} FROM overflow WHERE pool = ? AND live = 1 ORDER BY cluster, proc", (pool,)).fetchall()]


def ended(db: sqlite3.Connection, pool: str, cluster: int, proc: int, queued: int) -> Taken | None:
    """The job if it was taken over once, and that is over."""
    row = db.execute(f"SELECT {_COLUMNS} FROM overflow WHERE pool = ? AND cluster = ? AND proc = ? AND queued = ? AND live = 0",
                     (pool, cluster, proc, queued)).fetchone()  # fmt: skip
    return None if row is None else _taken(row)


def want(db: sqlite3.Connection, pool: str, ads: Iterable[Mapping[str, Any]], state: str, now: float) -> None:
    """Note what is to be held, before it is."""
    db.executemany(
        "INSERT OR IGNORE INTO overflow (pool, cluster, proc, queued, state, ad, since) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(pool, ad["ClusterId"], ad["ProcId"], int(ad.get("QDate") or 0), state, json.dumps(ad), now) for ad in ads],
    )


def move(db: sqlite3.Connection, rows: Iterable[int], state: str, now: float, why: str | None = None) -> None:
    db.executemany("UPDATE overflow SET state = ?, live = ?, since = ?, why = coalesce(?, why) WHERE id = ?",
                   [(state, int(state not in ENDS), now, why, one) for one in rows])  # fmt: skip


def place(db: sqlite3.Connection, rows: Iterable[tuple[int, int]], dataset: int, now: float) -> None:
    """(row, job): these are the jobs of this dataset."""
    db.executemany("UPDATE overflow SET state = 'here', dataset = ?, job = ?, since = ? WHERE id = ?", [(dataset, job, now, one) for one, job in rows])


def forget(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """They were never held."""
    db.executemany("DELETE FROM overflow WHERE id = ? AND state = 'wanted'", [(one,) for one in rows])


def counts(db: sqlite3.Connection, pool: str) -> dict[str, int]:
    """Jobs of a pool by state."""
    return dict(db.execute("SELECT state, count(*) FROM overflow WHERE pool = ? GROUP BY state", (pool,)).fetchall())


def standing(db: sqlite3.Connection, dataset: int, job: int) -> Standing:
    """How it stands with a job of a dataset of one task. It works on as long as an attempt is alive, even if it counts no more."""
    jobs, outputs, state = db.execute("SELECT jobs, outputs, state FROM dataset WHERE id = ?", (dataset,)).fetchone()
    row = db.execute("SELECT id, state, accepted FROM task WHERE dataset = ? AND job = ?", (dataset, job)).fetchone()
    if row is None:
        cancelled = state == Dataset.CANCELLED or db.execute(
            "SELECT 1 FROM range WHERE dataset = ? AND action = 'cancel' AND first <= ? AND last >= ?", (dataset, job, job)
        ).fetchone()
        return Standing("cancelled", "cancelled here") if cancelled else Standing("working")
    task, state, accepted = row
    if state == Task.OK:
        files = db.execute("SELECT name, state FROM file WHERE attempt = ? AND kept = 1", (accepted,)).fetchall()
        if any(one != File.HOME for _, one in files):
            return Standing("working", "its outputs are on their way")
        return Standing("done", "", tuple((name, str(home_path(outputs, jobs, job, name))) for name, _ in files))
    if state not in (Task.FAILED, Task.CANCELLED):
        return Standing("working")
    if db.execute("SELECT 1 FROM attempt WHERE task = ? AND live = 1", (task,)).fetchone():
        return Standing("working", "it is being stopped")
    if state == Task.CANCELLED:
        return Standing("cancelled", "cancelled here")
    found = db.execute("SELECT e.text FROM attempt a JOIN error e ON e.id = a.error WHERE a.task = ? ORDER BY a.id DESC LIMIT 1", (task,)).fetchone()
    return Standing("failed", "failed here" + (f": {found[0].strip().splitlines()[-1][:200]}" if found and found[0].strip() else ""))

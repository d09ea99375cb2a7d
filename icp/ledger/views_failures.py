"""All failures of a dataset, grouped by fingerprint, also those that a retry left behind (hides joins)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass

__all__ = ["FailureView", "failures"]


@dataclass(frozen=True, slots=True)
class FailureView:
    """Errors of one task with one fingerprint; ``text``, ``job`` and ``exit`` are the newest one's; sites and hosts with how many there."""

    task: str
    kind: str
    exit: int | None
    n: int
    jobs: int
    first: float
    last: float
    job: int
    sites: dict[str, int]
    hosts: dict[str, int]
    text: str


def failures(db: sqlite3.Connection, dataset: int, *, limit: int = 50) -> list[FailureView]:
    """The most frequent first."""
    found = []
    for task_def, task in db.execute("SELECT id, name FROM task_def WHERE dataset = ? ORDER BY idx", (dataset,)).fetchall():
        groups = db.execute(
            "SELECT fingerprint, kind, count(*), min(at), max(at), max(id) FROM error WHERE task_def = ? GROUP BY fingerprint ORDER BY 3 DESC LIMIT ?",
            (task_def, limit),
        ).fetchall()
        for mark, kind, n, first, last, newest in groups:
            sites: Counter[str] = Counter()
            hosts: Counter[str] = Counter()
            for site, host, times in db.execute(
                "SELECT s.name, h.text, count(*) FROM error e JOIN attempt a ON a.id = e.attempt JOIN site s ON s.id = a.site "
                "LEFT JOIN agent g ON g.id = a.agent LEFT JOIN name h ON h.id = g.host WHERE e.task_def = ? AND e.fingerprint = ? GROUP BY 1, 2",
                (task_def, mark),
            ).fetchall():
                sites[site] += times
                hosts[host or "?"] += times
            jobs = db.execute(
                "SELECT count(DISTINCT t.job) FROM error e JOIN attempt a ON a.id = e.attempt JOIN task t ON t.id = a.task "
                "WHERE e.task_def = ? AND e.fingerprint = ?",
                (task_def, mark),
            ).fetchone()[0]
            job, exit_, text = db.execute(
                "SELECT t.job, a.exit, e.text FROM error e JOIN attempt a ON a.id = e.attempt JOIN task t ON t.id = a.task WHERE e.id = ?", (newest,)
            ).fetchone()
            found.append(FailureView(task, kind, exit_, n, jobs, first, last, job, dict(sites.most_common()), dict(hosts.most_common()), text))
    return sorted(found, key=lambda one: -one.n)[:limit]

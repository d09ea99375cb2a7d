"""What `stats`, `outputs` and `logs` read: statistics, files, and where logs lie (hides sums of squares and the files' rows)."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.ledger.definitions import Graph, TaskDefRow
from icp.ledger.files import home_path
from icp.states import File

__all__ = ["OutputView", "StatView", "lost", "outputs", "spool_place", "stat_view", "statistics"]


@dataclass(frozen=True, slots=True)
class StatView:
    """One statistic over the accepted attempts of a task definition (``task`` None: of all of them)."""

    task: str | None
    name: str
    n: int
    sum: float
    mean: float
    deviation: float
    """Of the sample; 0 for a single value."""
    min: float
    max: float
    by: str | None = None
    """The group: a task's, site's or host's name, or a job's number (negative: of a final task); None: the dataset."""


@dataclass(frozen=True, slots=True)
class OutputView:
    """One output of an accepted attempt. ``path`` is where it is, or will be, when it is kept."""

    job: int | None
    group: int | None
    task: str
    name: str
    bytes: int
    sha256: str
    state: str
    kept: bool
    path: str | None
    site: str


def stat_view(task: str | None, name: str, sums: tuple[int, float, float, float, float], *, by: str | None = None) -> StatView:
    """From n, sum, sum of squares, least and largest."""
    n, total, squares, low, high = sums
    mean = total / n
    variance = max(0.0, (squares - total * mean) / (n - 1)) if n > 1 else 0.0
    return StatView(task, name, n, total, mean, math.sqrt(variance), low, high, by)


_Sums = tuple[int, float, float, float, float]


def _add(a: _Sums | None, b: _Sums) -> _Sums:
    return b if a is None else (a[0] + b[0], a[1] + b[1], a[2] + b[2], min(a[3], b[3]), max(a[4], b[4]))


def statistics(db: sqlite3.Connection, graph: Graph, *, task: TaskDefRow | None = None, together: bool = False) -> list[StatView]:
    """What modules reported, by task definition (or ``together``) and name; sums that a reset made stale are taken anew."""
    sums: dict[tuple[str | None, str], _Sums] = {}
    for one in graph.defs.values():
        if task is not None and one.id != task.id:
            continue
        rows = db.execute(
            "SELECT m.text, s.n, s.sum, s.squares, s.min, s.max, s.stale FROM summary s JOIN name m ON m.id = s.stat WHERE s.dataset = ? AND s.task_def = ?",
            (graph.dataset, one.id),
        ).fetchall()
        if any(row[6] for row in rows):
            rows = _recomputed(db, graph.dataset, one.id)
        for name, *values in rows:
            key = (None if together else one.name, name)
            sums[key] = _add(sums.get(key), (values[0], values[1], values[2], values[3], values[4]))
    return [stat_view(*key, values, by=key[0]) for key, values in sorted(sums.items(), key=lambda item: (item[0][0] or "", item[0][1])) if values[0]]


def _recomputed(db: sqlite3.Connection, dataset: int, task_def: int) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT j.key, count(*), sum(j.value), sum(1.0 * j.value * j.value), min(j.value), max(j.value) "
        "FROM task t INDEXED BY task_job JOIN attempt a ON a.id = t.accepted, json_each(a.stats) j "
        "WHERE t.dataset = ? AND t.task_def = ? AND a.stats IS NOT NULL GROUP BY j.key",
        (dataset, task_def),
    ).fetchall()


_FILE = (
    "SELECT t.job, t.task_def, f.name, f.bytes, f.sha256, f.state, f.kept, s.name FROM task t INDEXED BY task_job "
    "JOIN attempt a ON a.id = t.accepted JOIN file f ON f.attempt = a.id JOIN site s ON s.id = a.site WHERE t.dataset = ? AND t.job BETWEEN ? AND ?"
)


def outputs(
    db: sqlite3.Connection,
    graph: Graph,
    *,
    first: int,
    last: int,
    task: TaskDefRow | None = None,
    site: str | None = None,
    every: bool = False,
    missing: bool = False,
    limit: int | None = None,
) -> Iterator[OutputView]:
    """Files of accepted attempts of jobs first..last, by job: the kept ones (``every``: all), or only those that are not home."""
    folder, jobs = db.execute("SELECT outputs, jobs FROM dataset WHERE id = ?", (graph.dataset,)).fetchone()
    query = _FILE
    values: list[Any] = [graph.dataset, first, last]
    if task is not None:
        query += " AND t.task_def = ?"
        values.append(task.id)
    if site is not None:
        query += " AND a.site = (SELECT id FROM site WHERE name = ?)"
        values.append(site)
    if not every:
        query += " AND f.kept = 1"
    if missing:
        query += f" AND f.state <> {int(File.HOME)}"
    rows = db.execute(query + " ORDER BY t.job, t.task_def, f.id LIMIT ?", [*values, -1 if limit is None else limit]).fetchall()
    for job, task_def, name, size, digest, state, kept, at in rows:
        path = str(home_path(folder, jobs, job, name)) if kept else None
        yield OutputView(
            job if job >= 0 else None, None if job >= 0 else -1 - job, graph.defs[task_def].name, name, size, digest.hex(),
            File(state).name.lower(), bool(kept), path, at,
        )  # fmt: skip


def lost(db: sqlite3.Connection, attempt: int) -> list[str]:
    """Names of files that an attempt made and that are nowhere any more."""
    return [row[0] for row in db.execute("SELECT name FROM file WHERE attempt = ? AND state = ? ORDER BY id", (attempt, int(File.LOST))).fetchall()]


def spool_place(db: sqlite3.Connection, site: str) -> Path | None:
    """The spool of a site whose root is on this machine; None before the first tick there."""
    said = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('uuid', ?)", (f"root:{site}",)).fetchall())
    root = said.get(f"root:{site}")
    return None if root is None else Path(str(root)[str(root).find("/") :]) / str(said["uuid"])



"""Datasets whose jobs are added as outputs of another one come home: what came, and which group it waits for (hides their tables).

That an output is given once is a unique index; what came is queued by a trigger in the transaction that says it is home.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from icp.ledger import chaining
from icp.ledger.chaining import HomeFile
from icp.ledger.change import grow
from icp.ledger.control import Control
from icp.states import Dataset, File

__all__ = ["Came", "Following", "add_jobs", "came", "due", "followed", "hold", "looked_at", "over", "settle", "view", "waiting"]

_ENDED = f"(p.deleted IS NOT NULL OR p.state IN ({int(Dataset.COMPLETE)}, {int(Dataset.CANCELLED)})) AND p.coming = 0"


@dataclass(frozen=True, slots=True)
class Came:
    """A file that waits for its group: ``source`` is the number of its row."""

    source: int
    job: int
    part: int


@dataclass(frozen=True, slots=True)
class Following:
    """Where a dataset that follows another one stands."""

    name: str
    """The other one's."""
    number: int
    state: str
    """... and its state"""
    reason: str | None
    task: str
    output: str
    open: bool
    """More may come."""
    jobs: int
    """The other one's."""
    taken: int
    """Files that jobs are made from."""
    gathered: int
    """Files that wait until their group is full."""
    queued: int
    """Files that came since the last tick."""


def due(db: sqlite3.Connection) -> list[int]:
    """Datasets for which something came, or will not come any more; those that are suspended wait."""
    rows = db.execute(
        "SELECT w.dataset FROM follow w INDEXED BY follow_open JOIN dataset d ON d.id = w.dataset JOIN dataset p ON p.id = w.source "
        f"WHERE w.open = 1 AND d.deleted IS NULL AND d.state IN ({int(Dataset.PROCESSING)}, {int(Dataset.COMPLETE)}) "
        f"AND (EXISTS (SELECT 1 FROM arrival a WHERE a.dataset = w.dataset) OR ({_ENDED})) ORDER BY w.dataset"
    ).fetchall()
    return [int(row[0]) for row in rows]


def over(db: sqlite3.Connection, dataset: int) -> bool:
    """Whether no more can come: the other dataset has ended, all of it is home, and everything that came was looked at."""
    return db.execute(
        f"SELECT 1 FROM follow w JOIN dataset p ON p.id = w.source WHERE w.dataset = ? AND {_ENDED} "
        "AND NOT EXISTS (SELECT 1 FROM arrival a WHERE a.dataset = w.dataset)",
        (dataset,),
    ).fetchone() is not None  # fmt: skip


def came(db: sqlite3.Connection, dataset: int, limit: int) -> tuple[int, list[HomeFile]]:
    """Files that came and were given to nobody, in the order in which they came, among the first ``limit`` arrivals; the number of the last of these."""
    rows = db.execute(
        "SELECT a.id, f.output, x.task FROM arrival a JOIN file f ON f.id = a.file JOIN attempt x ON x.id = f.attempt "
        "WHERE a.dataset = ? ORDER BY a.id LIMIT ?",
        (dataset, limit),
    ).fetchall()
    found: list[HomeFile] = []
    for output, task in dict.fromkeys((output, task) for _, output, task in rows):
        files = chaining.outputs_of_task(db, task, output)  # none: some of it is still on its way, or it counts no more
        if not files:
            continue
        given = db.execute("SELECT job FROM source WHERE dataset = ? AND task = ?", (dataset, task)).fetchall()
        if any(job is not None for (job,) in given):
            continue  # made again: the job was made from what there was
        db.execute("DELETE FROM source WHERE dataset = ? AND task = ?", (dataset, task))
        found += files
    return (rows[-1][0] if rows else 0), found


def hold(db: sqlite3.Connection, dataset: int, keyed: Iterable[tuple[str | None, HomeFile]]) -> list[tuple[str, Came]]:
    """These wait for their group."""
    held: list[tuple[str, Came]] = []
    for key, one in keyed:
        number = db.execute(
            "INSERT INTO source (dataset, job, file, task, part, key) VALUES (?, NULL, ?, ?, ?, ?)", (dataset, one.file, one.task, one.output.part, key)
        ).lastrowid
        assert number is not None
        held.append((key or "", Came(number, one.output.job, one.output.part)))
    return held


def waiting(db: sqlite3.Connection, dataset: int, keys: Iterable[str] | None) -> dict[str, list[Came]]:
    """What waits for these groups (None: for all), the oldest first; what counts no more is forgotten: it comes again, or is not there."""
    columns = "SELECT s.id, s.key, t.job, s.part, f.state FROM source s INDEXED BY source_waiting JOIN file f ON f.id = s.file JOIN task t ON t.id = s.task "
    if keys is None:
        rows = db.execute(columns + "WHERE s.dataset = ? AND s.job IS NULL ORDER BY s.id", (dataset,)).fetchall()
    else:
        rows = [row for key in keys for row in db.execute(
            columns + "WHERE s.dataset = ? AND s.job IS NULL AND s.key = ? ORDER BY s.id", (dataset, key)).fetchall()]  # fmt: skip
    gone = [row[0] for row in rows if row[4] != File.HOME]
    db.executemany("DELETE FROM source WHERE id = ?", [(one,) for one in gone])
    found: dict[str, list[Came]] = {}
    for number, key, job, part, state in rows:
        if state == File.HOME:
            found.setdefault(key or "", []).append(Came(number, job, part))
    return found


def add_jobs(control: Control, groups: Sequence[Sequence[Came]], *, keyed: bool) -> None:
    """A job for each of these groups, behind the others."""
    db, dataset, first = control.db, control.dataset, control.jobs
    for job, members in enumerate(groups, first):
        db.executemany("UPDATE source SET job = ? WHERE id = ?", [(job, one.source) for one in members])
    if groups:
        made = chaining.job_columns(db, dataset, first, first + len(groups) - 1, keyed=keyed)
        db.executemany("INSERT INTO job_list VALUES (?, ?, ?)", [(dataset, job, columns) for job, columns in made])
        grow(control, first + len(groups))


def looked_at(db: sqlite3.Connection, dataset: int, last: int) -> None:
    """Arrivals up to this one are dealt with."""
    db.execute("DELETE FROM arrival WHERE dataset = ? AND id <= ?", (dataset, last))


def settle(db: sqlite3.Connection, dataset: int) -> None:
    """No more will come, as far as is known: the dataset may be complete."""
    db.execute("UPDATE follow SET open = 0 WHERE dataset = ?", (dataset,))


def followed(db: sqlite3.Connection, dataset: int) -> tuple[int, str, str]:
    """The dataset that this one follows: number, name, and the task that makes what it takes."""
    row = db.execute(
        "SELECT p.id, p.name, k.name FROM follow w JOIN dataset p ON p.id = w.source JOIN task_def k ON k.id = w.task_def WHERE w.dataset = ?", (dataset,)
    ).fetchone()
    return int(row[0]), str(row[1]), str(row[2])


def view(db: sqlite3.Connection, dataset: int) -> Following | None:
    """Where a dataset that follows another one stands; None for one that does not."""
    row = db.execute(
        "SELECT p.name, p.id, p.state, p.reason, k.name, o.name, w.open, p.jobs FROM follow w JOIN dataset p ON p.id = w.source "
        "JOIN task_def k ON k.id = w.task_def JOIN output_def o ON o.task_def = w.task_def AND o.idx = w.output WHERE w.dataset = ?",
        (dataset,),
    ).fetchone()
    if row is None:
        return None
    name, number, state, reason, task, output, open_, jobs = row
    taken, gathered = db.execute("SELECT count(job), count(*) - count(job) FROM source WHERE dataset = ?", (dataset,)).fetchone()
    queued = db.execute("SELECT count(*) FROM arrival WHERE dataset = ?", (dataset,)).fetchone()[0]
    return Following(name, number, Dataset(state).name.lower(), reason, task, output, bool(open_), jobs, taken, gathered, queued)

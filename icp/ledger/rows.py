"""Rows of tasks and attempts held in memory during one transaction, and how they are read and written (hides the columns)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["AttemptRow", "TaskRow", "chunks", "read_attempts", "read_tasks", "write_attempts", "write_tasks"]

TASK_COLUMNS = "id, dataset, task_def, job, state, need, tier, zone, site, priority, waiting_on, accepted, mark, not_before"
ATTEMPT_COLUMNS = (
    "id, key, passkey, task, try, site, card, agent, state, void, stop, since, begun, staging, running, storing, "
    "cpu, rss, exit, log, out, err, error, stats, had"
)


class TaskRow:
    """One row of ``task``; ``was`` is its class and state when it was read, None for a new one."""

    __slots__ = (*TASK_COLUMNS.split(", "), "was")

    id: int
    dataset: int
    task_def: int
    job: int
    state: int
    need: int
    tier: int
    zone: int
    site: int
    priority: int
    waiting_on: int
    accepted: int | None
    mark: int
    not_before: float | None
    was: tuple[int, int, int, int] | None

    def __init__(self, row: Sequence[Any], *, new: bool = False) -> None:
        (
            self.id,
            self.dataset,
            self.task_def,
            self.job,
            self.state,
            self.need,
            self.tier,
            self.zone,
            self.site,
            self.priority,
            self.waiting_on,
            self.accepted,
            self.mark,
            self.not_before,
        ) = row
        self.was = None if new else (self.need, self.zone, self.site, self.state)


class AttemptRow:
    """One row of ``attempt``."""

    __slots__ = tuple(ATTEMPT_COLUMNS.replace("try", "try_").split(", "))

    id: int
    key: bytes
    passkey: bytes
    task: int
    try_: int
    site: int
    card: int
    agent: int | None
    state: int
    void: int
    stop: int
    since: float | None
    begun: float | None
    staging: int | None
    running: int | None
    storing: int | None
    cpu: int | None
    rss: int | None
    exit: int | None
    log: int | None
    out: int | None
    err: int | None
    error: int | None
    stats: str | None
    had: int | None

    def __init__(self, row: Sequence[Any]) -> None:
        (
            self.id,
            self.key,
            self.passkey,
            self.task,
            self.try_,
            self.site,
            self.card,
            self.agent,
            self.state,
            self.void,
            self.stop,
            self.since,
            self.begun,
            self.staging,
            self.running,
            self.storing,
            self.cpu,
            self.rss,
            self.exit,
            self.log,
            self.out,
            self.err,
            self.error,
            self.stats,
            self.had,
        ) = row

    @property
    def live(self) -> bool:
        return self.state <= 4


def chunks(values: Iterable[Any], size: int = 500) -> Iterable[list[Any]]:
    """SQLite takes a limited number of parameters: lists in parts."""
    part: list[Any] = []
    for value in values:
        part.append(value)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _marks(part: Sequence[Any]) -> str:
    return ",".join("?" * len(part))


def read_tasks(db: sqlite3.Connection, column: str, values: Iterable[Any]) -> list[TaskRow]:
    """Tasks whose ``column`` is one of ``values``."""
    found: list[TaskRow] = []
    for part in chunks(values):
        query = f"SELECT {TASK_COLUMNS} FROM task WHERE {column} IN ({_marks(part)})"
        found += map(TaskRow, db.execute(query, part).fetchall())
    return found


def read_attempts(db: sqlite3.Connection, column: str, values: Iterable[Any], extra: str = "") -> list[AttemptRow]:
    """Attempts whose ``column`` is one of ``values``; ``extra`` narrows them (``AND live = 1``)."""
    found: list[AttemptRow] = []
    for part in chunks(values):
        query = f"SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE {column} IN ({_marks(part)}) {extra}"
        found += map(AttemptRow, db.execute(query, part).fetchall())
    return found


def write_tasks(db: sqlite3.Connection, rows: Iterable[TaskRow]) -> None:
    """Update rows that were read, insert new ones (their ``id`` is None until then)."""
    old: list[tuple[Any, ...]] = []
    for row in rows:
        if row.was is None:
            row.id = db.execute(
                "INSERT INTO task (dataset, task_def, job, state, live, need, tier, zone, site, priority, waiting_on, accepted, mark, not_before) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.dataset, row.task_def, row.job, row.state, int(row.state <= 3), row.need, row.tier, row.zone, row.site, row.priority,
                    row.waiting_on, row.accepted, row.mark, row.not_before,
                ),
            ).lastrowid or 0  # fmt: skip
        else:
            live = int(row.state <= 3)
            where = (row.need, row.tier, row.zone, row.site, row.priority)
            old.append((row.state, live, *where, row.waiting_on, row.accepted, row.mark, row.not_before, row.id))
    db.executemany(
        "UPDATE task SET state = ?, live = ?, need = ?, tier = ?, zone = ?, site = ?, priority = ?, waiting_on = ?, accepted = ?, mark = ?, "
        "not_before = ? WHERE id = ?",
        old,
    )


def write_attempts(db: sqlite3.Connection, rows: Iterable[AttemptRow]) -> None:
    """Update attempts that were read."""
    db.executemany(
        "UPDATE attempt SET agent = ?, state = ?, live = ?, void = ?, stop = ?, since = ?, begun = ?, staging = ?, running = ?, storing = ?, "
        "cpu = ?, rss = ?, exit = ?, log = ?, out = ?, err = ?, error = ?, stats = ?, had = ? WHERE id = ?",
        [
            (row.agent, row.state, int(row.state <= 4), row.void, row.stop, row.since, row.begun, row.staging, row.running, row.storing,
             row.cpu, row.rss, row.exit, row.log, row.out, row.err, row.error, row.stats, row.had, row.id)
            for row in rows
        ],
    )  # fmt: skip

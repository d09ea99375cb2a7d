"""Whether anybody will still read an output, and what follows when nobody will (hides who reads what)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from icp.ledger.definitions import Definitions, TaskDefRow
from icp.states import FILE, File, Task

__all__ = ["drop_readerless"]


def _readers_done(db: sqlite3.Connection, definitions: Definitions, definition: TaskDefRow, dataset: int, job: int) -> bool:
    """Whether nobody will read an output of this task any more."""
    for reader in (definitions.task_def(one) for one in (*definition.children, *definition.finals)):
        if all(one.parent != definition.id for one in reader.inputs):
            continue
        if not reader.final:
            row = db.execute("SELECT state FROM task WHERE dataset = ? AND job = ? AND task_def = ?", (dataset, job, reader.id)).fetchone()
            if row is None or row[0] not in (Task.OK, Task.CANCELLED):
                return False
            continue
        group = 0
        if reader.final == 2:
            found = db.execute("SELECT grp FROM job_group WHERE task_def = ? AND job = ?", (reader.id, job)).fetchone()
            if found is None:
                return False
            group = found[0]
        row = db.execute("SELECT state FROM task WHERE dataset = ? AND job = ? AND task_def = ?", (dataset, -1 - group, reader.id)).fetchone()
        if row is None or row[0] not in (Task.OK, Task.CANCELLED):
            return False
    return True


def drop_readerless(db: sqlite3.Connection, definitions: Definitions, attempts: Iterable[int]) -> None:
    """Of these accepted attempts: outputs without a reader that are not kept are dropped; what is home need not stay at the site."""
    for attempt in attempts:
        row = db.execute(
            "SELECT t.dataset, t.job, t.task_def, t.accepted, a.site FROM attempt a JOIN task t ON t.id = a.task WHERE a.id = ?", (attempt,)
        ).fetchone()
        if row is None or row[3] != attempt:
            continue
        files = db.execute("SELECT id, kept, state FROM file WHERE attempt = ? AND live = 1", (attempt,)).fetchall()
        if not files or not _readers_done(db, definitions, definitions.task_def(row[2]), row[0], row[1]):
            continue
        for number, kept, state in files:
            if not kept and FILE.knows(File(state), "unneeded"):
                db.execute("UPDATE file SET state = ?, live = 0 WHERE id = ?", (int(File.DROPPED), number))
        if all(state in (File.HOME, File.LOST, File.DROPPED) for _, kept, state in files if kept):
            db.execute("UPDATE file SET live = 0 WHERE attempt = ?", (attempt,))
            db.execute("UPDATE replica SET dropping = 1 WHERE attempt = ?", (attempt,))

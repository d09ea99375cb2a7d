"""Jobs become rows, groups of final tasks are counted, final tasks become rows (hides how waiting_on and kept counts begin)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from icp.ledger import ranges
from icp.ledger.definitions import Graph
from icp.ledger.fold import Fold
from icp.ledger.rows import TaskRow
from icp.model.need import Need
from icp.states import Task

__all__ = ["add_groups", "need_id", "ready_finals", "release_finals", "release_jobs"]


def need_id(db: sqlite3.Connection, need: Need) -> int:
    """The number of an interned need."""
    row = db.execute("SELECT id FROM need WHERE key = ?", (need.id,)).fetchone()
    if row is None:
        row = (db.execute("INSERT INTO need (key, body) VALUES (?, ?)", (need.id, need.bytes.decode())).lastrowid,)
    return int(row[0])


def release_jobs(fold: Fold, graph: Graph, jobs: Sequence[int], need_of: Callable[[int, int], int]) -> None:
    """Make the rows of these jobs; ``need_of(task_def id, job)`` gives a need's number."""
    said = ranges.priorities(fold.db, graph.dataset)
    for job in jobs:
        priority = ranges.priority_of(said, job) if said else 0
        for one in graph.tasks:
            waiting_on = len(one.parents)
            state = Task.IDLE if waiting_on else Task.WAITING
            fold.add_task(
                TaskRow(
                    (None, graph.dataset, one.id, job, int(state), need_of(one.id, job), 0, 0, 0, priority, waiting_on, None, 0, None), new=True
                )
            )


def add_groups(db: sqlite3.Connection, graph: Graph, keys: Iterable[tuple[int, dict[int, str]]]) -> list[tuple[int, int]]:
    """Count jobs into their groups: ``keys`` yields (job, {final task_def id: group key}), jobs in order from the mark on.

    (task_def, group) of final tasks that were made already, for which there is more to wait for.

    Cancelled jobs without rows count as members with nothing left to wait for.
    """
    left: Counter[tuple[int, str]] = Counter()
    members: Counter[tuple[int, str]] = Counter()
    assigned: list[tuple[int, int, str]] = []
    last = -1
    cancelled = db.execute("SELECT first, last FROM range WHERE dataset = ? AND action = 'cancel'", (graph.dataset,)).fetchall()
    for job, by_final in keys:
        last = job
        gone = any(low <= job <= high for low, high in cancelled)
        for final, key in by_final.items():
            members[final, key] += 1
            left[final, key] += 0 if gone else len(graph.defs[final].parents)
            assigned.append((final, job, key))
    numbers: dict[tuple[int, str], int] = {}
    grown: list[tuple[int, int]] = []
    for (final, key), n in members.items():
        row = db.execute("SELECT grp, made FROM final_left WHERE dataset = ? AND task_def = ? AND key = ?", (graph.dataset, final, key)).fetchone()
        if row is None:
            number = int(
                db.execute("SELECT coalesce(max(grp) + 1, 0) FROM final_left WHERE dataset = ? AND task_def = ?", (graph.dataset, final)).fetchone()[0]
            )
            db.execute("INSERT INTO final_left (dataset, task_def, grp, key) VALUES (?, ?, ?, ?)", (graph.dataset, final, number, key))
        else:
            number = int(row[0])
            if row[1]:
                grown.append((final, number))
        numbers[final, key] = number
        db.execute(
            "UPDATE final_left SET members = members + ?, left = left + ? WHERE dataset = ? AND task_def = ? AND grp = ?",
            (n, left[final, key], graph.dataset, final, number),
        )
    db.executemany("INSERT INTO job_group VALUES (?, ?, ?)", [(final, job, numbers[final, key]) for final, job, key in assigned])
    db.execute("UPDATE dataset SET grouped = max(grouped, ?) WHERE id = ?", (last + 1, graph.dataset))
    return grown


def ready_finals(db: sqlite3.Connection, limit: int) -> list[tuple[int, int, int, str, int]]:
    """(dataset, task_def, group, key, oks) of final tasks whose jobs are all done and counted, and that are not rows yet."""
    return db.execute(
        "SELECT f.dataset, f.task_def, f.grp, f.key, f.oks FROM final_left f INDEXED BY final_ready JOIN dataset d ON d.id = f.dataset "
        "WHERE f.left = 0 AND f.made = 0 AND d.grouped = d.jobs AND d.deleted IS NULL AND d.state IN (0, 1) "
        "AND NOT EXISTS (SELECT 1 FROM follow w WHERE w.dataset = d.id AND w.open = 1) LIMIT ?",
        (limit,),
    ).fetchall()


def release_finals(fold: Fold, ready: Iterable[tuple[int, int, int, str, int]], need_of: Callable[[int, int, str], int]) -> int:
    """Make final tasks' rows: waiting, or cancelled when no member is ok. ``need_of(task_def, job, key)`` gives a need's number."""
    made = 0
    for dataset, task_def, group, key, oks in ready:
        job = -1 - group
        state = Task.WAITING if oks else Task.CANCELLED
        need = need_of(task_def, job, key)
        zone = _zone_of_inputs(fold, task_def)
        fold.add_task(TaskRow((None, dataset, task_def, job, int(state), need, 0, zone, 0, 0, 0, None, 0, None), new=True))
        fold.db.execute("UPDATE final_left SET made = 1 WHERE dataset = ? AND task_def = ? AND grp = ?", (dataset, task_def, group))
        made += 1
    return made


def _zone_of_inputs(fold: Fold, task_def: int) -> int:
    """The zone in which most of what a final task reads was made (0: nowhere)."""
    definition = fold.definitions.task_def(task_def)
    made: Counter[int] = Counter()
    for parent in {one.parent for one in definition.inputs}:
        query = "SELECT s.zone, y.n FROM tally y JOIN site s ON s.id = y.site WHERE y.dataset = ? AND y.task_def = ? AND y.state = ?"
        for zone, n in fold.db.execute(query, (definition.dataset, parent, int(Task.OK))).fetchall():
            made[zone] += n
    return max(made, key=lambda zone: (made[zone], -zone)) if made else 0

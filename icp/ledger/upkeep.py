"""What the engine looks after between plan and exchange: completion, sums to correct, groups to count (hides the queries)."""

from __future__ import annotations

import json
import math
import sqlite3

from icp.ledger import notices
from icp.ledger.definitions import Definitions
from icp.states import DATASET, Dataset, Task

__all__ = ["complete", "correct_summaries", "needless", "suspend", "ungrouped"]


def ungrouped(db: sqlite3.Connection) -> list[int]:
    """Datasets at work whose jobs are not all counted into groups."""
    rows = db.execute(
        "SELECT id FROM dataset INDEXED BY dataset_active WHERE deleted IS NULL AND state IN (0, 1) AND state = 0 AND grouped < jobs"
    ).fetchall()
    return [int(row[0]) for row in rows]


def needless(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """(dataset, task_def) with tasks whose need has to be rendered anew."""
    return db.execute("SELECT DISTINCT dataset, task_def FROM live_class WHERE need = 0 AND n > 0").fetchall()


def suspend(db: sqlite3.Connection, dataset: int, reason: str) -> None:
    state = Dataset(db.execute("SELECT state FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    if DATASET.knows(state, "suspend"):
        db.execute("UPDATE dataset SET state = ?, reason = ? WHERE id = ?", (int(DATASET.step(state, "suspend")), reason, dataset))


def complete(db: sqlite3.Connection, definitions: Definitions, now: float) -> list[int]:
    """Datasets whose tasks are all ok or cancelled and whose kept files are home become complete, others that were are reopened."""
    rows = db.execute(
        "SELECT d.id, d.jobs, d.state FROM dataset d INDEXED BY dataset_active WHERE d.deleted IS NULL AND d.state IN (0, 1) AND d.state = 0 "
        "AND d.coming = 0 AND d.grouped = d.jobs AND NOT EXISTS (SELECT 1 FROM live_class c WHERE c.dataset = d.id AND c.n > 0) "
        "AND NOT EXISTS (SELECT 1 FROM follow w WHERE w.dataset = d.id AND w.open = 1)"
    ).fetchall()
    done: list[int] = []
    for dataset, jobs, state in rows:
        finals, unmade = db.execute(
            "SELECT count(*), coalesce(sum(made = 0), 0) FROM final_left WHERE dataset = ?", (dataset,)
        ).fetchone()
        if unmade:
            continue
        tally = dict(db.execute("SELECT state, n FROM dataset_tally WHERE dataset = ?", (dataset,)).fetchall())
        expected = jobs * len(definitions.graph(dataset).tasks) + finals
        if tally.get(int(Task.OK), 0) + tally.get(int(Task.CANCELLED), 0) == expected:
            after = DATASET.step(Dataset(state), "finished")
            db.execute("UPDATE dataset SET state = ?, finished = ? WHERE id = ?", (int(after), now, dataset))
            name, directory = db.execute("SELECT name, outputs FROM dataset WHERE id = ?", (dataset,)).fetchone()
            notices.add(db, "complete", f"dataset {name} is complete; outputs are in {directory}", dataset=dataset, at=now)
            done.append(dataset)
    return done


def correct_summaries(db: sqlite3.Connection) -> None:
    """Statistics of task definitions of which an attempt was taken back are summed again from the accepted ones."""
    for dataset, task_def in db.execute("SELECT DISTINCT dataset, task_def FROM summary WHERE stale = 1").fetchall():
        sums: dict[str, list[float]] = {}
        cursor = db.execute(
            "SELECT a.stats FROM task t JOIN attempt a ON a.id = t.accepted WHERE t.dataset = ? AND t.task_def = ? AND a.stats IS NOT NULL ORDER BY t.job",
            (dataset, task_def),
        )
        for (text,) in cursor.fetchall():
            for name, value in json.loads(text).items():
                kept = sums.setdefault(name, [0, 0.0, 0.0, math.inf, -math.inf])
                kept[0] += 1
                kept[1] += value
                kept[2] += value * value
                kept[3] = min(kept[3], value)
                kept[4] = max(kept[4], value)
        db.execute("DELETE FROM summary WHERE dataset = ? AND task_def = ?", (dataset, task_def))
        db.executemany(
            "INSERT INTO summary SELECT ?, ?, id, ?, ?, ?, ?, ?, 0 FROM name WHERE text = ?",
            [(dataset, task_def, *kept, name) for name, kept in sums.items()],
        )

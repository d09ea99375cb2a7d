"""A dataset that is described anew in place: its tables, and what of the old description still moves (hides in which order it is safe).

It is suspended first, then what is described otherwise is taken back, and only then the new description takes the old one's place: killed in between,
the same command finds the same to do again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping

from icp.ledger.change import grow
from icp.ledger.control import Control
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.fold import Fold
from icp.ledger.submit import kept_outputs
from icp.model.definition import Steering, to_json
from icp.states import DATASET, Dataset, File, Task

__all__ = ["REASON", "begin", "count_ok", "finish", "gone", "groups", "left_over", "renew_needs", "same_shape", "switch"]

REASON = "it is being replaced"
JOBS_AT_ONCE = 1000

Changed = Mapping[int, Iterable[tuple[int, int]]]
"""task_def -> ranges of jobs"""


def begin(control: Control) -> str | None:
    """Nothing more is sent of it; the reason that it was suspended for before, if it was."""
    state, reason = control.db.execute("SELECT state, reason FROM dataset WHERE id = ?", (control.dataset,)).fetchone()
    control.reopen()
    if control.state == Dataset.PROCESSING:
        control.state = Dataset(DATASET.step(control.state, "suspend"))
        control.db.execute("UPDATE dataset SET state = ?, reason = ?, finished = NULL WHERE id = ?", (int(control.state), REASON, control.dataset))
    return str(reason) if Dataset(state) == Dataset.SUSPENDED and reason != REASON else None


def left_over(db: sqlite3.Connection, dataset: int, changed: Changed) -> bool:
    """Whether an attempt after the old description still counts, or would: an engine was about to send it."""
    for task_def, ranges in changed.items():
        for first, last in ranges:
            row = db.execute(
                "SELECT 1 FROM task t INDEXED BY task_job JOIN attempt a ON a.task = t.id AND a.void = 0 AND (a.live = 1 OR t.accepted = a.id) "
                f"WHERE t.dataset = ? AND t.job BETWEEN ? AND ? AND t.task_def = ? AND t.state <> {int(Task.CANCELLED)} LIMIT 1",
                (dataset, first, last, task_def),
            ).fetchone()
            if row is not None:
                return True
    return False


def count_ok(db: sqlite3.Connection, dataset: int, changed: Changed) -> int:
    """How many of these tasks are ok."""
    total = 0
    for task_def, ranges in changed.items():
        for first, last in ranges:
            total += db.execute(
                f"SELECT count(*) FROM task INDEXED BY task_job WHERE dataset = ? AND job BETWEEN ? AND ? AND task_def = ? AND state = {int(Task.OK)}",
                (dataset, first, last, task_def),
            ).fetchone()[0]
    return total


def gone(db: sqlite3.Connection, dataset: int, task_def: int, output: int, ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Jobs whose task is ok, and has this output neither at home nor at a site any more."""
    return [
        row[0]
        for first, last in ranges
        for row in db.execute(
            "SELECT t.job FROM task t INDEXED BY task_job JOIN file f ON f.attempt = t.accepted AND f.output = ? AND f.state IN (?, ?) "
            "WHERE t.dataset = ? AND t.job BETWEEN ? AND ? AND t.task_def = ?",
            (output, int(File.DROPPED), int(File.LOST), dataset, first, last, task_def),
        ).fetchall()
    ]


def groups(db: sqlite3.Connection, dataset: int, task_def: int) -> list[tuple[int, str]]:
    """(group, key) of a final task that are rows."""
    return db.execute("SELECT grp, key FROM final_left WHERE dataset = ? AND task_def = ? AND made > 0", (dataset, task_def)).fetchall()


def switch(control: Control, steering: Steering, directory: str, pack: tuple[bytes, bytes] | None) -> int:
    """The new description takes the old one's place, which is kept; the number of the new revision. The caller commits."""
    db, dataset = control.db, control.dataset
    number = int(db.execute("SELECT coalesce(max(number), 0) + 1 FROM revision WHERE dataset = ?", (dataset,)).fetchone()[0])
    db.execute(
        "INSERT INTO revision SELECT id, ?, (SELECT coalesce(max(id), 0) FROM attempt), ?, jobs, definition, steering, pack FROM dataset WHERE id = ?",
        (number, control.now, dataset),
    )
    if pack is not None:
        db.execute("INSERT OR IGNORE INTO blob VALUES (?, ?, ?)", (pack[0], len(pack[1]), pack[1]))
    old = json.loads(db.execute("SELECT definition FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    db.execute(
        "UPDATE dataset SET definition = ?, steering = ?, directory = ?, pack = ? WHERE id = ?",
        (json.dumps(to_json(steering), separators=(",", ":")), steering.text, directory, None if pack is None else pack[0], dataset),
    )
    for key in ("priority", "category", "stop_loss"):
        # what a person set since stays, unless the file says another thing than before
        if getattr(steering, key) != old[key]:
            db.execute(f"UPDATE dataset SET {key} = ? WHERE id = ?", (getattr(steering, key), dataset))
    before = {one["name"]: one["max_tries"] for one in (*old["tasks"], *old["finals"])}
    for task in steering.all_tasks:
        row = control.graph.by_name(task.name)
        assert row is not None
        if task.max_tries != before[task.name]:
            db.execute("UPDATE task_def SET tries = ? WHERE id = ?", (task.max_tries, row.id))
        db.executemany("UPDATE output_def SET name = ? WHERE task_def = ? AND idx = ?", [(one.name, row.id, idx) for idx, one in enumerate(task.outputs)])
    if steering.jobs.kind == "rows":
        db.execute("DELETE FROM job_list WHERE dataset = ?", (dataset,))
        db.executemany(
            "INSERT INTO job_list VALUES (?, ?, ?)",
            ((dataset, job, json.dumps(row, separators=(",", ":"))) for job, row in enumerate(steering.jobs.rows)),
        )
    if steering.jobs.count > control.jobs:
        grow(control, steering.jobs.count)
    control.ledger.audit(control.now, "replace", dataset, f"revision {number + 1}: {steering.path}")
    return number + 1


def renew_needs(ledger: Ledger, definitions: Definitions, dataset: int, now: float) -> None:
    """What is not done asks for what the new description says: the engine renders it."""
    last = int(ledger.db.execute("SELECT coalesce(max(job), -1) FROM task WHERE dataset = ?", (dataset,)).fetchone()[0])
    spans = [(low, low + JOBS_AT_ONCE - 1) for low in range(0, last + 1, JOBS_AT_ONCE)]
    for first, end in (*spans, (-(10**9), -1)):
        with ledger.write() as db:
            rows = db.execute("SELECT DISTINCT job FROM task WHERE dataset = ? AND job BETWEEN ? AND ? AND state <> 4", (dataset, first, end)).fetchall()
            fold = Fold(ledger, definitions, now)
            fold.load_jobs(dataset, [row[0] for row in rows])
            for (job,) in rows:
                for task in fold.by_job[dataset, job].values():
                    if task.state in (Task.IDLE, Task.WAITING, Task.FAILED, Task.SUSPENDED):
                        task.need = 0
                        fold.dirty_tasks[task.id] = task
            fold.flush()


def finish(control: Control, before: str | None) -> bool:
    """It goes on as it was; stop-loss counts anew. Whether it goes on."""
    db, dataset = control.db, control.dataset
    db.execute("UPDATE task_def SET same_error = NULL, same_errors = 0 WHERE dataset = ?", (dataset,))
    if before is not None and not before.startswith("stop-loss"):
        return False
    db.execute("UPDATE dataset SET state = ?, reason = NULL WHERE id = ?", (int(DATASET.step(Dataset.SUSPENDED, "resume")), dataset))
    return True


def same_shape(old: Steering, new: Steering) -> list[str]:
    """What of tasks, inputs and outputs is not as it was: these decide what the ledger's rows mean, and cannot change under them."""
    wrong: list[str] = []
    names = [one.name for one in old.all_tasks], [one.name for one in new.all_tasks]
    if names[0] != names[1]:
        more, less = [one for one in names[1] if one not in names[0]], [one for one in names[0] if one not in names[1]]
        said = [f"{word} {', '.join(some)}" for word, some in (("new:", more), ("gone:", less)) if some]
        return [f"its tasks are {', '.join(names[0])}" + (f"; {'; '.join(said)}" if said else ", in this order")]
    kept, now = kept_outputs(old), kept_outputs(new)
    for one in old.all_tasks:
        other = new.task(one.name)
        outputs = [[(o.optional, o.glob, table[task.name, o.name]) for o in task.outputs] for task, table in ((one, kept), (other, now))]
        places = [[(ref.task, [o.name for o in whole.task(ref.task).outputs].index(ref.output), ref.every) for ref in task.inputs]
                  for task, whole in ((one, old), (other, new))]  # fmt: skip
        for what, changed in (
            ("final or not", one.final != other.final), ("inputs", places[0] != places[1]), ("parents", set(one.after) != set(other.after)),
            ("number or kind of outputs", outputs[0] != outputs[1]), ("group_by", one.group_by != other.group_by),
        ):  # fmt: skip
            if changed:
                wrong.append(f"task {one.name} has other {what}" if what != "final or not" else f"task {one.name} is {what}")
    return wrong

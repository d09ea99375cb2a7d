"""Recording a new dataset: constant work whatever its number of jobs (hides which tables a submission fills)."""

from __future__ import annotations

import json
import sqlite3

from icp.errors import BadInput
from icp.ledger.chaining import begin, parent, record_sources
from icp.ledger.db import Ledger
from icp.model.definition import JobSource, Steering, TaskDef, to_json

__all__ = ["check_name", "kept_outputs", "record"]

ROWS_AT_ONCE = 5000


def check_name(db: sqlite3.Connection, name: str) -> None:
    """A name belongs to one dataset that is not deleted."""
    row = db.execute("SELECT id FROM dataset WHERE name = ? AND deleted IS NULL", (name,)).fetchone()
    if row is not None:
        raise BadInput(
            f"there is a dataset named {name} already (number {row[0]})",
            f"`icp status {name}` shows it; `icp submit --name OTHER ...` makes a new one; "
            f"`icp delete {name}` forgets it (its outputs stay) and frees the name",
        )


def kept_outputs(steering: Steering) -> dict[tuple[str, str], bool]:
    """(task, output) -> kept: what no task of the same job reads and has no URL, or what says ``keep``."""
    read = {(one.task, one.output) for task in steering.tasks for one in task.inputs}
    kept: dict[tuple[str, str], bool] = {}
    for task in (*steering.tasks, *steering.finals):
        for output in task.outputs:
            default = not output.url and (task.name, output.name) not in read
            kept[task.name, output.name] = output.keep if output.keep is not None else default
    return kept


def record(
    ledger: Ledger,
    steering: Steering,
    *,
    uuid: str,
    seed: int,
    directory: str,
    outputs: str,
    pack: tuple[bytes, bytes] | None,
    now: float,
) -> int:
    """Write the dataset, its definitions, its list of jobs if it has one; the number of the dataset. The caller commits.

    ``pack`` is (sha256, bytes) of the shipped files.
    """
    db = ledger.db
    check_name(db, steering.name)
    grouped = any(task.group_by for task in steering.finals)
    jobs = 0 if steering.jobs.follow else steering.jobs.count
    if pack is not None:
        db.execute("INSERT OR IGNORE INTO blob VALUES (?, ?, ?)", (pack[0], len(pack[1]), pack[1]))
    number = db.execute(
        "INSERT INTO dataset (uuid, name, category, priority, seed, jobs, grouped, stop_loss, definition, steering, directory, outputs, pack, submitted) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            uuid, steering.name, steering.category, steering.priority, seed, jobs, 0 if grouped else jobs,
            steering.stop_loss, json.dumps(to_json(steering), separators=(",", ":")), steering.text, directory, outputs,
            None if pack is None else pack[0], now,
        ),
    ).lastrowid  # fmt: skip
    assert number is not None
    _definitions(db, number, steering, jobs)
    if steering.jobs.kind == "rows" and not steering.jobs.follow:
        db.executemany(
            "INSERT INTO job_list VALUES (?, ?, ?)",
            ((number, job, json.dumps(row, separators=(",", ":"))) for job, row in enumerate(steering.jobs.rows)),
        )
    if steering.jobs.source:
        _sources(db, number, steering.jobs)
    ledger.audit(now, "submit", number, steering.path)
    return number


def _sources(db: sqlite3.Connection, dataset: int, jobs: JobSource) -> None:
    if jobs.follow:
        name, _, rest = jobs.source.removeprefix("dataset:").partition("/")
        task, _, output = rest.partition(":")
        begin(db, dataset, parent(db, name, task, output, follow=True), grouped=jobs.grouped)
    else:
        record_sources(db, dataset, jobs.source, jobs.rows, grouped=jobs.grouped, keyed=bool(jobs.group_by))


def _definitions(db: sqlite3.Connection, dataset: int, steering: Steering, jobs: int) -> None:
    kept = kept_outputs(steering)
    ids: dict[str, int] = {}
    tasks: dict[str, TaskDef] = {}
    for task in (*steering.tasks, *steering.finals):
        final = 0 if not task.final else 2 if task.group_by else 1
        row = db.execute(
            "INSERT INTO task_def (dataset, idx, name, final, tries) VALUES (?, ?, ?, ?, ?)",
            (dataset, task.index, task.name, final, task.max_tries),
        ).lastrowid
        assert row is not None
        ids[task.name], tasks[task.name] = row, task
        db.executemany(
            "INSERT INTO output_def VALUES (?, ?, ?, ?, ?, ?)",
            [
                (row, idx, output.name, int(kept[task.name, output.name]), int(output.optional), int(output.glob))
                for idx, output in enumerate(task.outputs)
            ],
        )
        for idx, one in enumerate(task.inputs):
            at = [output.name for output in tasks[one.task].outputs].index(one.output)
            db.execute("INSERT INTO input_def VALUES (?, ?, ?, ?)", (row, idx, ids[one.task], at))
        parents = dict.fromkeys([one.task for one in task.inputs] + list(task.after))
        db.executemany("INSERT INTO edge VALUES (?, ?)", [(ids[parent], row) for parent in parents])
        if final == 1:
            left = jobs * len(parents)
            db.execute(
                "INSERT INTO final_left (dataset, task_def, grp, key, members, left) VALUES (?, ?, 0, '', ?, ?)",
                (dataset, row, jobs, left),
            )

"""What the engine and `icp run` read of datasets (hides the columns)."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from icp.states import Dataset, File, Task

__all__ = [
    "DatasetRow",
    "at_rest",
    "counts",
    "group_key",
    "grouped",
    "home_members",
    "home_outputs",
    "job_row",
    "job_rows",
    "named",
    "newest_command",
    "priority",
    "read_dataset",
    "something_to_do",
    "something_waits",
]


@dataclass(frozen=True, slots=True)
class DatasetRow:
    id: int
    uuid: str
    name: str
    state: Dataset
    reason: str | None
    seed: int
    jobs: int
    outputs: str
    directory: str
    pack: bytes | None
    definition: str
    steering: str


_COLUMNS = "id, uuid, name, state, reason, seed, jobs, outputs, directory, pack, definition, steering"


def _row(found: tuple[Any, ...] | None) -> DatasetRow | None:
    if found is None:
        return None
    number, uuid, name, state, *rest = found
    return DatasetRow(number, uuid, name, Dataset(state), *rest)


def read_dataset(db: sqlite3.Connection, number: int) -> DatasetRow:
    row = _row(db.execute(f"SELECT {_COLUMNS} FROM dataset WHERE id = ?", (number,)).fetchone())
    assert row is not None
    return row


def named(db: sqlite3.Connection, name: str) -> DatasetRow | None:
    """The dataset that has this name now."""
    return _row(db.execute(f"SELECT {_COLUMNS} FROM dataset WHERE name = ? AND deleted IS NULL", (name,)).fetchone())


def job_row(db: sqlite3.Connection, dataset: int, job: int) -> list[Any]:
    """The columns of a job that came from a list."""
    found: list[Any] = json.loads(db.execute("SELECT row FROM job_list WHERE dataset = ? AND job = ?", (dataset, job)).fetchone()[0])
    return found


def job_rows(db: sqlite3.Connection, dataset: int) -> list[list[Any]]:
    """The columns of all jobs that came from a list."""
    return [json.loads(row[0]) for row in db.execute("SELECT row FROM job_list WHERE dataset = ? ORDER BY job", (dataset,)).fetchall()]


def grouped(db: sqlite3.Connection, dataset: int) -> int:
    """Jobs below this mark are counted into groups."""
    return int(db.execute("SELECT grouped FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])


def priority(db: sqlite3.Connection, dataset: int) -> int:
    return int(db.execute("SELECT priority FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])


def group_key(db: sqlite3.Connection, dataset: int, task_def: int, group: int) -> str:
    """The value of ``group_by`` that a group of a final task stands for."""
    row = db.execute("SELECT key FROM final_left WHERE dataset = ? AND task_def = ? AND grp = ?", (dataset, task_def, group)).fetchone()
    return str(row[0])


def newest_command(db: sqlite3.Connection) -> int | None:
    """Changes when a person said something."""
    row = db.execute("SELECT max(id) FROM command").fetchone()
    return None if row[0] is None else int(row[0])


def counts(db: sqlite3.Connection, dataset: int | None) -> dict[int, int]:
    """Tasks by state, of one dataset or of all that are at work or suspended."""
    where, values = (
        ("WHERE dataset = ?", (dataset,))
        if dataset is not None
        else ("WHERE dataset IN (SELECT id FROM dataset INDEXED BY dataset_active WHERE deleted IS NULL AND state IN (0, 1))", ())
    )
    return dict(db.execute(f"SELECT state, sum(n) FROM dataset_tally {where} GROUP BY state", values).fetchall())


_LIVELY = (
    "(d.released < d.jobs OR d.coming > 0 OR EXISTS (SELECT 1 FROM live_class c WHERE c.dataset = d.id AND c.n > 0 AND c.state > 0) "
    "OR EXISTS (SELECT 1 FROM range r WHERE r.dataset = d.id AND r.action = 'release') "
    "OR (EXISTS (SELECT 1 FROM final_left f INDEXED BY final_ready WHERE f.dataset = d.id AND f.left = 0 AND f.made = 0) "
    "AND NOT EXISTS (SELECT 1 FROM follow w WHERE w.dataset = d.id AND w.open = 1)) "
    # what another dataset made came, or will not come any more
    "OR EXISTS (SELECT 1 FROM follow w JOIN dataset p ON p.id = w.source WHERE w.dataset = d.id AND w.open = 1 "
    "AND (p.state IN (2, 3) OR p.deleted IS NOT NULL OR EXISTS (SELECT 1 FROM arrival a WHERE a.dataset = d.id))))"
)


def something_to_do(db: sqlite3.Connection) -> bool:
    """Whether some dataset can go on by itself: what waits for a person does not count."""
    query = f"SELECT 1 FROM dataset d INDEXED BY dataset_active WHERE d.deleted IS NULL AND d.state IN (0, 1) AND d.state = 0 AND {_LIVELY} LIMIT 1"
    # what is complete goes on when more came for it
    again = "SELECT 1 FROM follow w INDEXED BY follow_open JOIN dataset d ON d.id = w.dataset WHERE w.open = 1 AND d.deleted IS NULL AND d.state = ?"
    return db.execute(query).fetchone() is not None or db.execute(again, (int(Dataset.COMPLETE),)).fetchone() is not None


def at_work(db: sqlite3.Connection) -> list[int]:
    """Datasets that are neither complete nor cancelled."""
    query = "SELECT id FROM dataset INDEXED BY dataset_active WHERE deleted IS NULL AND state IN (0, 1) ORDER BY id"
    return [number for (number,) in db.execute(query).fetchall()]


def something_waits(db: sqlite3.Connection) -> bool:
    """Whether tasks wait to be dealt, or for a parent that may end any moment, or jobs to be released."""
    if db.execute("SELECT 1 FROM live_class WHERE n > 0 AND state IN (?, ?) LIMIT 1", (int(Task.IDLE), int(Task.WAITING))).fetchone():
        return True
    query = "SELECT 1 FROM dataset INDEXED BY dataset_active WHERE deleted IS NULL AND state IN (0, 1) AND state = 0 AND released < jobs LIMIT 1"
    return db.execute(query).fetchone() is not None


def at_rest(db: sqlite3.Connection, dataset: int) -> bool:
    """Whether a dataset is done, or waits for a person (suspended, or failed tasks and nothing else left)."""
    query = f"SELECT 1 FROM dataset d WHERE d.id = ? AND d.state = ? AND {_LIVELY}"
    if db.execute(query, (dataset, int(Dataset.PROCESSING))).fetchone():
        return False
    if read_dataset(db, dataset).state != Dataset.PROCESSING:
        return True
    followed = db.execute("SELECT source FROM follow WHERE dataset = ? AND open = 1", (dataset,)).fetchone()
    if followed is not None:
        return at_rest(db, followed[0])
    return bool(
        db.execute(
            "SELECT 1 FROM dataset_tally WHERE dataset = ? AND state IN (?, ?) AND n > 0", (dataset, int(Task.FAILED), int(Task.SUSPENDED))
        ).fetchone()
    )


def home_outputs(db: sqlite3.Connection, dataset: int, job: int, task: str) -> list[tuple[int, str, str]] | None:
    """(output index, name, sha256) of a task whose outputs are all home; None if they are not."""
    row = db.execute(
        "SELECT t.accepted FROM task t JOIN task_def d ON d.id = t.task_def WHERE t.dataset = ? AND t.job = ? AND d.name = ?", (dataset, job, task)
    ).fetchone()
    if row is None or row[0] is None:
        return None
    files = db.execute("SELECT output, name, sha256, state FROM file WHERE attempt = ?", (row[0],)).fetchall()
    if any(state != File.HOME for *_, state in files):
        return None
    return [(index, name, digest.hex()) for index, name, digest, _ in files]


def home_members(db: sqlite3.Connection, dataset: int, task: str, output: str) -> list[tuple[int, str, str]]:
    """(job, name, sha256) of one output of all jobs that is home, in the order of jobs."""
    rows = db.execute(
        "SELECT t.job, f.name, f.sha256 FROM task_def d JOIN task t INDEXED BY task_job ON t.dataset = d.dataset AND t.task_def = d.id "
        "JOIN file f ON f.attempt = t.accepted JOIN output_def o ON o.task_def = d.id AND o.idx = f.output "
        "WHERE d.dataset = ? AND d.name = ? AND o.name = ? AND f.state = ? ORDER BY t.job",
        (dataset, task, output, int(File.HOME)),
    ).fetchall()
    return [(row[0], row[1], row[2].hex()) for row in rows]

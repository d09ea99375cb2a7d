"""Outputs of one dataset as the jobs of another (hides which rows they are)."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from icp.errors import BadInput, IcpError
from icp.ledger.definitions import Definitions
from icp.ledger.files import home_path
from icp.ledger.views import find_dataset
from icp.states import Dataset, File

__all__ = ["Given", "given", "outputs_as_jobs", "record_sources"]

COLUMNS = ("files", "source_dataset", "source_job", "source_sha256", "source_path")


@dataclass(frozen=True, slots=True)
class Given:
    """The file that a job was made from, where it lies at home; ``attempt`` is the number of the row."""

    name: str
    sha256: bytes
    bytes: int
    path: Path
    attempt: int


def outputs_as_jobs(db: sqlite3.Connection, dataset: str, task: str, output: str) -> list[tuple[str, str, int, str, str]]:
    """One row (see ``COLUMNS``) for each file of an output of a complete dataset, in the order of its jobs. BadInput, NotFound."""
    number = find_dataset(db, dataset)
    graph = Definitions(db).graph(number)
    name, state, outputs, jobs = db.execute("SELECT name, state, outputs, jobs FROM dataset WHERE id = ?", (number,)).fetchone()
    definition = graph.by_name(task)
    if definition is None:
        raise BadInput(f"dataset {name} has no task {task!r}; it has {', '.join(one.name for one in graph.defs.values())}")
    found = next((one for one in definition.outputs if one.name == output), None)
    if found is None:
        known = ", ".join(one.name for one in definition.outputs) or "none"
        raise BadInput(f"task {task} of dataset {name} has no output {output!r}; it has {known}")
    if not found.kept:
        raise BadInput(f"output {output} of task {task} is not kept: `keep = true` in the steering file of dataset {name} keeps it")
    if state != Dataset.COMPLETE:
        raise BadInput(f"dataset {name} is {Dataset(state).name.lower()}, and jobs are made of a complete one")
    rows = db.execute(
        "SELECT t.job, f.name, f.sha256 FROM task t INDEXED BY task_job JOIN file f ON f.attempt = t.accepted AND f.output = ? AND f.state = ? "
        "WHERE t.dataset = ? AND t.task_def = ? ORDER BY t.job, f.id",
        (found.idx, int(File.HOME), number, definition.id),
    ).fetchall()
    return [(file.rpartition("/")[2], name, job, digest.hex(), str(home_path(outputs, jobs, job, file))) for job, file, digest in rows]


def record_sources(db: sqlite3.Connection, dataset: int, rows: list[tuple[str, int, str]]) -> None:
    """Which file each job of a new dataset is made from: (dataset, job, sha256) of it, in the order of jobs. The caller commits."""
    for job, (name, of, digest) in enumerate(rows):
        file = db.execute(
            "SELECT f.id FROM dataset d JOIN task t INDEXED BY task_job ON t.dataset = d.id AND t.job = ? JOIN file f ON f.attempt = t.accepted "
            "WHERE d.name = ? AND d.deleted IS NULL AND f.sha256 = ? AND f.kept = 1",
            (of, name, bytes.fromhex(digest)),
        ).fetchone()
        if file is None:
            raise BadInput(f"the output of job {of} of dataset {name} is not there any more; nothing was recorded", "submit it again")
        db.execute("INSERT INTO source VALUES (?, ?, ?)", (dataset, job, file[0]))


_GIVEN = (
    "SELECT f.name, f.sha256, f.bytes, f.state, f.attempt, d.name, d.outputs, d.jobs, t.job FROM source s JOIN file f ON f.id = s.file "
    "JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task JOIN dataset d ON d.id = t.dataset WHERE s.dataset = ? AND s.job = ?"
)


def given(db: sqlite3.Connection, dataset: int, job: int, *, there: bool = True) -> Given | None:
    """The file that a job was made from; IcpError (``there``) when that is not home any more."""
    row = db.execute(_GIVEN, (dataset, job)).fetchone()
    if row is None:
        return None
    name, digest, size, state, attempt, whose, outputs, jobs, of = row
    path = home_path(outputs, jobs, of, name)
    if there and (state != File.HOME or not path.exists()):
        hint = f"put it back, or make it again: `icp reset {whose} --jobs {of}`, and submit what reads it anew"
        raise IcpError(f"{path}, from which job {job} is made, is not there any more", hint)
    return Given(name.rpartition("/")[2], digest, size, path, attempt)

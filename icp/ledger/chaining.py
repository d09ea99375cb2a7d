"""Outputs of one dataset as the jobs of another (hides which rows they are)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from icp.errors import BadInput, IcpError
from icp.ledger.definitions import Definitions, OutputRow, TaskDefRow
from icp.ledger.files import any_folder, home_path
from icp.ledger.views import find_dataset
from icp.model.chains import KEY, ChainOutput, name_in_task, row
from icp.states import Dataset, File, Task

__all__ = [
    "Changed", "Given", "HomeFile", "Parent", "Remade", "begin", "changed", "given", "job_columns", "leave", "of_output", "outputs_of_task",
    "parent", "record_sources", "renew",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parent:
    """A dataset whose output jobs are made from."""

    number: int
    name: str
    over: bool
    """It has ended, and all of it is home: there will be no more."""
    task: TaskDefRow
    output: OutputRow


@dataclass(frozen=True, slots=True)
class Given:
    """One file that a job was made from, where it lies at home; ``attempt`` is the number of the row."""

    name: str
    sha256: bytes
    bytes: int
    path: Path
    attempt: int


class Remade(IcpError):
    """What a job was made from is being made again, and is not home yet."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that a job was made from, which counts no more; ``now``: the sha256 of what was made in its place, None where nothing was (yet)."""

    job: int
    dataset: str
    source_job: int
    name: str
    sha256: str
    now: str | None
    again: bool
    """It is being made again."""


def parent(db: sqlite3.Connection, dataset: str, task: str, output: str, *, follow: bool) -> Parent:
    """The dataset that is named so, and its output; ``follow``: it need not be complete. BadInput, NotFound."""
    number = find_dataset(db, dataset)
    graph = Definitions(db).graph(number)
    name, state, coming = db.execute("SELECT name, state, coming FROM dataset WHERE id = ?", (number,)).fetchone()
    definition = graph.by_name(task)
    if definition is None:
        raise BadInput(f"dataset {name} has no task {task!r}; it has {', '.join(one.name for one in graph.defs.values())}")
    found = next((one for one in definition.outputs if one.name == output), None)
    if found is None:
        known = ", ".join(one.name for one in definition.outputs) or "none"
        raise BadInput(f"task {task} of dataset {name} has no output {output!r}; it has {known}")
    if not found.kept:
        raise BadInput(f"output {output} of task {task} is not kept: `keep = true` in the steering file of dataset {name} keeps it")
    if state != Dataset.COMPLETE and not follow:
        raise BadInput(f"dataset {name} is {Dataset(state).name.lower()}, and jobs are made of a complete one; `follow = true` adds them as its outputs come")
    return Parent(number, name, state in (Dataset.COMPLETE, Dataset.CANCELLED) and coming == 0, definition, found)


_OUTPUTS = (
    "SELECT t.job, t.id, f.id, f.name, f.sha256, d.name, d.outputs, d.jobs, f.attempt FROM task t JOIN file f ON f.attempt = t.accepted AND f.output = ? "
    "JOIN dataset d ON d.id = t.dataset "
)


@dataclass(frozen=True, slots=True)
class HomeFile:
    """An output at home, and its rows."""

    output: ChainOutput
    file: int
    task: int


def of_output(db: sqlite3.Connection, one: Parent) -> list[HomeFile]:
    """All files of this output that are home and count, of tasks that have all of theirs home, in the order of jobs."""
    rows = db.execute(
        _OUTPUTS.replace("FROM task t", "FROM task t INDEXED BY task_job") + "WHERE t.dataset = ? AND t.task_def = ? AND f.state = ? ORDER BY t.job, f.id",
        (one.output.idx, one.number, one.task.id, int(File.HOME)),
    ).fetchall()
    if one.over:
        return _home_files(rows)
    lacking = {
        found[0]
        for found in db.execute(
            "SELECT DISTINCT t.id FROM file f INDEXED BY file_wanted JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task "
            "WHERE f.live = 1 AND f.kept = 1 AND f.state IN (0, 1, 2) AND f.output = ? AND t.dataset = ? AND t.task_def = ?",
            (one.output.idx, one.number, one.task.id),
        ).fetchall()
    }
    return _home_files([found for found in rows if found[1] not in lacking])


def outputs_of_task(db: sqlite3.Connection, task: int, output: int) -> list[HomeFile]:
    """The same of one task; none unless all of them are home."""
    rows = db.execute(_OUTPUTS + "WHERE t.id = ? AND f.state = ? ORDER BY f.id", (output, task, int(File.HOME))).fetchall()
    if rows and db.execute("SELECT count(*) FROM file WHERE attempt = ? AND output = ?", (rows[0][8], output)).fetchone()[0] == len(rows):
        return _home_files(rows)
    return []


def _home_files(rows: Iterable[tuple[Any, ...]]) -> list[HomeFile]:
    found: list[HomeFile] = []
    for job, task, file, name, digest, dataset, outputs, jobs, _ in rows:
        part = found[-1].output.part + 1 if found and found[-1].task == task else 0
        folder = any_folder(job, jobs)
        found.append(HomeFile(ChainOutput(dataset, job, folder, name, digest.hex(), f"{outputs}/{folder}/{name}", part), file, task))
    return found


def record_sources(db: sqlite3.Connection, dataset: int, source: str, rows: Sequence[tuple[Any, ...]], *, grouped: bool, keyed: bool) -> None:
    """Which files each job of a new dataset is made from; ``rows``: the columns of its jobs. The caller commits."""
    name, _, rest = source.removeprefix("dataset:").partition("/")
    task, _, output = rest.partition(":")
    one = parent(db, name, task, output, follow=False)
    there = {found.output.path: found for found in of_output(db, one)}
    for job, columns in enumerate(rows):
        paths, digests = (columns[4], columns[3]) if grouped else ([columns[4]], [columns[3]])
        for path, digest in zip(paths, digests, strict=True):
            found = there.get(path)
            if found is None or found.output.sha256 != digest:
                raise BadInput(f"{path} is not there any more, or is another file now; nothing was recorded", "submit it again")
            db.execute(
                "INSERT INTO source (dataset, job, file, task, part, key) VALUES (?, ?, ?, ?, ?, ?)",
                (dataset, job, found.file, found.task, found.output.part, columns[5] if keyed else "" if grouped else None),
            )


# what counts now in the place of a file that does not any more: the same part of the same output of its task
_NOW = (
    "n.attempt = t.accepted AND n.output = f.output "
    "AND (SELECT count(*) FROM file g WHERE g.attempt = n.attempt AND g.output = n.output AND g.id < n.id) = s.part"
)
_SOURCES = (
    "SELECT s.job, f.name, f.sha256, f.bytes, f.state, f.attempt, d.name, d.outputs, d.jobs, t.job, k.name, s.key IS NOT NULL, t.state, d.state, "
    f"n.name, n.sha256, n.state, t.id FROM source s JOIN file f ON f.id = s.file JOIN task t ON t.id = s.task JOIN dataset d ON d.id = t.dataset "
    f"JOIN task_def k ON k.id = t.task_def LEFT JOIN file n ON f.state <> {int(File.HOME)} AND {_NOW} "
)


def given(db: sqlite3.Connection, dataset: int, job: int, *, there: bool = True) -> list[Given]:
    """The files that a job was made from, in the order of the jobs that made them. With ``there`` their bytes are at home: IcpError when they are
    not any more, or are others; :class:`Remade` while they are made again.
    """
    found: list[Given] = []
    for row_ in db.execute(_SOURCES + "WHERE s.dataset = ? AND s.job = ? ORDER BY t.job, s.part", (dataset, job)).fetchall():
        _, name, digest, size, state, attempt, whose, outputs, jobs, of, task, grouped, doing, living, new_name, new, new_state, maker = row_
        # made again with the same bytes it is as good
        same = state == File.HOME or (new == digest and new_state == File.HOME)
        path = home_path(outputs, jobs, of, name if state == File.HOME or new_name is None else new_name)
        if there and not same and new_state == File.HOME:
            raise IcpError(
                f"job {job} was made from {path} with sha256 {digest.hex()[:16]}..., and job {of} of dataset {whose} has made it anew, with other bytes",
                f"`icp reset DATASET --job {job}` makes the job from what is there now, then `icp resume DATASET`",
            )
        if there and not same:
            again = f"{path}, from which job {job} is made, is to be made again by job {of} of dataset {whose}"
            if new_state in _COMING or (doing < Task.OK and living == Dataset.PROCESSING and not _held(db, maker)):
                raise Remade(again)
            if doing not in (Task.OK, Task.CANCELLED) and living in (Dataset.PROCESSING, Dataset.SUSPENDED):
                suspended = doing < Task.FAILED and living == Dataset.SUSPENDED
                why = f"which is suspended: `icp resume {whose}`" if suspended else f"which waits for a person: `icp why {whose} --job {of}`"
                raise IcpError(f"{again}, {why}, then `icp resume` what is made from it")
        if there and (not same or not path.exists()):
            hint = f"put it back, or make it again: `icp reset {whose} --job {of}`, then `icp resume DATASET`"
            raise IcpError(f"{path}, from which job {job} is made, is not there any more", hint)
        found.append(Given(name_in_task(task, any_folder(of, jobs), name, grouped=bool(grouped)), digest, size, path, attempt))
    return found


_COMING = (File.PRODUCED, File.RELAYING, File.COLLECTING)


def _held(db: sqlite3.Connection, task: int) -> bool:
    """Whether something of a task's job waits for a person."""
    query = "SELECT 1 FROM task t JOIN task o INDEXED BY task_job ON o.dataset = t.dataset AND o.job = t.job WHERE t.id = ? AND o.state IN (?, ?) LIMIT 1"
    return db.execute(query, (task, int(Task.FAILED), int(Task.SUSPENDED))).fetchone() is not None


def changed(db: sqlite3.Connection, dataset: int, first: int, last: int, limit: int = 100) -> list[Changed]:
    """Of these jobs: files that they were made from and that do not count any more, nor others with the same bytes in their place."""
    rows = db.execute(
        _SOURCES + f"WHERE s.dataset = ? AND s.job BETWEEN ? AND ? AND f.state <> {int(File.HOME)} "
        f"AND (n.sha256 IS NOT f.sha256 OR n.state <> {int(File.HOME)}) ORDER BY s.job, t.job, s.part LIMIT ?",
        (dataset, first, last, limit),
    ).fetchall()
    return [
        Changed(one[0], one[6], one[9], one[1], one[2].hex(), one[15].hex() if one[16] == File.HOME else None,
                one[16] != File.HOME and one[13] in (Dataset.PROCESSING, Dataset.SUSPENDED) and one[12] != Task.CANCELLED)
        for one in rows
    ]  # fmt: skip


def job_columns(db: sqlite3.Connection, dataset: int, first: int, last: int, *, keyed: bool) -> list[tuple[int, str]]:
    """What these jobs know of the files that they are made from now, as JSON."""
    rows = db.execute(
        "SELECT s.job, f.name, f.sha256, d.name, d.outputs, d.jobs, t.job, k.name, s.key FROM source s INDEXED BY source_job JOIN file f ON f.id = s.file "
        "JOIN task t ON t.id = s.task JOIN dataset d ON d.id = t.dataset JOIN task_def k ON k.id = t.task_def "
        "WHERE s.dataset = ? AND s.job BETWEEN ? AND ? ORDER BY s.job, t.job, s.part",
        (dataset, first, last),
    ).fetchall()
    found: list[tuple[int, str]] = []
    for job, members in groupby(rows, key=lambda one: int(one[0])):
        task = key = None
        outputs = []
        for _, name, digest, whose, where, jobs, of, task, key in members:  # noqa: B007 - the same of all of them
            folder = any_folder(of, jobs)
            outputs.append(ChainOutput(whose, of, folder, name, digest.hex(), f"{where}/{folder}/{name}"))
        columns = row(str(task), outputs, grouped=key is not None, key=key if keyed else None)
        found.append((job, json.dumps(columns, separators=(",", ":"))))
    return found


def renew(db: sqlite3.Connection, dataset: int, first: int, last: int) -> None:
    """A person resets these jobs: they are made from what counts now, where that is home."""
    rows = db.execute(
        f"SELECT s.id, s.job, n.id FROM source s JOIN file f ON f.id = s.file AND f.state <> {int(File.HOME)} JOIN task t ON t.id = s.task "
        f"JOIN file n ON {_NOW} AND n.state = {int(File.HOME)} WHERE s.dataset = ? AND s.job BETWEEN ? AND ?",
        (dataset, first, last),
    ).fetchall()
    db.executemany("UPDATE source SET file = ? WHERE id = ?", [(file, one) for one, _, file in rows])
    keyed = bool(rows) and KEY in json.loads(db.execute("SELECT definition FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])["jobs"]["columns"]
    for job in {job for _, job, _ in rows}:
        db.executemany("UPDATE job_list SET row = ? WHERE dataset = ? AND job = ?",
                       [(columns, dataset, one) for one, columns in job_columns(db, dataset, job, job, keyed=keyed)])  # fmt: skip


def begin(db: sqlite3.Connection, dataset: int, one: Parent, *, grouped: bool) -> None:
    """A new dataset follows; what is there already came first, in the order of jobs. The caller commits."""
    db.execute("INSERT INTO follow (dataset, source, task_def, output, grouped) VALUES (?, ?, ?, ?, ?)",
               (dataset, one.number, one.task.id, one.output.idx, int(grouped)))  # fmt: skip
    files = [found.file for found in of_output(db, one) if found.output.part == 0]
    db.executemany("INSERT INTO arrival (dataset, file) VALUES (?, ?)", [(dataset, file) for file in files])


def leave(db: sqlite3.Connection, dataset: int) -> None:
    """A dataset that is cancelled or deleted follows no more."""
    db.execute("DELETE FROM follow WHERE dataset = ?", (dataset,))
    db.execute("DELETE FROM arrival WHERE dataset = ?", (dataset,))
    db.execute("DELETE FROM source WHERE dataset = ? AND job IS NULL", (dataset,))

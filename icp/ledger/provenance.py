"""Who made a file, and from what, back to the first: attempts and what they read (hides how an attempt is matched with what it read).

An attempt read what was accepted of its parents when it was dealt. Files have rows only where their attempt was accepted, and attempts are accepted
in the order of their numbers: so of each parent it is the last one with files before it, or the one on its own card.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.errors import BadInput
from icp.ledger.chaining import given
from icp.ledger.definitions import Definitions, InputRow, TaskDefRow
from icp.ledger.files import final_folder, home_path, job_folder
from icp.states import Attempt, File, Task

__all__ = [
    "FileRecord", "MadeBy", "Read", "Revision", "attempts", "by_digest", "by_path", "counted", "earlier", "files_of", "inputs_of", "key_of", "made_by",
    "packs", "revision",
]  # fmt: skip

SHORTEST = 8
"""Hex digits of a sha256 that say enough."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """An output in the ledger. ``path`` is where it is kept, or would be; ``attempt`` is the number of the row."""

    file: int
    attempt: int
    name: str
    bytes: int
    sha256: str
    state: str
    kept: bool
    path: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """A file that an attempt read, under the name that it had there; ``attempt`` (a row's number) made it. ``sha256`` None: that is not known."""

    name: str
    sha256: str | None
    bytes: int | None
    attempt: int


@dataclass(frozen=True, slots=True)
class MadeBy:
    """An attempt, and what it belongs to. ``job`` is -1 - group for a final task; durations are seconds, ``memory`` bytes."""

    number: int
    attempt: str
    dataset: int
    name: str
    uuid: str
    deleted: bool
    seed: int
    task_def: int
    task: str
    job: int
    group: str
    tries: int
    state: str
    accepted: bool
    void: bool
    site: str
    host: str | None
    agent: str | None
    begun: float | None
    wall: float | None
    cpu: float | None
    memory: int | None
    exit: int | None
    stats: dict[str, float]
    software: str | None = None
    """What it really had, as JSON by environment."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A dataset as it was described when an attempt was made; ``number`` counts from 1, ``until`` is when it was replaced (None: it is the last)."""

    number: int
    until: float | None
    jobs: int
    definition: str
    steering: str
    pack: str | None


_FILE = (
    "SELECT f.id, f.attempt, f.name, f.bytes, f.sha256, f.state, f.kept, d.outputs, d.jobs, t.job "
    "FROM file f JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task JOIN dataset d ON d.id = t.dataset "
)


def _files(rows: Iterable[tuple[Any, ...]]) -> list[FileRecord]:
    found = []
    for number, attempt, name, size, digest, state, kept, outputs, jobs, job in rows:
        path = str(home_path(outputs, jobs, job, name)) if kept else None
        found.append(FileRecord(number, attempt, name, size, digest.hex(), File(state).name.lower(), bool(kept), path))
    return found


def by_digest(db: sqlite3.Connection, digest: str, limit: int = 1000) -> list[FileRecord]:
    """Files with this sha256, or one that begins so; those that count first, then the newest. Looks through all files of the ledger."""
    text = digest.lower()
    if not SHORTEST <= len(text) <= 64 or set(text) - set("0123456789abcdef"):
        raise BadInput(f"{digest!r} is neither a file nor a sha256", f"a path, or at least {SHORTEST} hex digits of a sha256")
    whole = bytes.fromhex(text[: len(text) // 2 * 2])
    where, values = ("f.sha256 = ?", [whole]) if len(text) == 64 else ("substr(f.sha256, 1, ?) = ?", [len(whole), whole])
    rows = db.execute(f"{_FILE} WHERE {where} ORDER BY (t.accepted IS f.attempt) DESC, f.id DESC LIMIT ?", (*values, limit)).fetchall()
    return [one for one in _files(rows) if one.sha256.startswith(text)]


def by_path(db: sqlite3.Connection, path: Path) -> list[FileRecord]:
    """Files that were recorded as outputs under this path: that of the last dataset and attempt first."""
    for number, outputs, jobs in db.execute("SELECT id, outputs, jobs FROM dataset ORDER BY id DESC").fetchall():
        try:
            parts = path.relative_to(outputs).parts
        except ValueError:
            continue
        if len(parts) > 2 and parts[0] == "final" and parts[1].isdigit() and f"final/{parts[1]}" == final_folder(int(parts[1])):
            job, rest = -1 - int(parts[1]), parts[2:]
        elif len(parts) > 1 and parts[0].isdigit() and parts[0] == job_folder(int(parts[0]), jobs):
            job, rest = int(parts[0]), parts[1:]
        else:
            continue
        rows = db.execute(
            f"{_FILE} WHERE t.dataset = ? AND t.job = ? AND f.name = ? AND f.kept = 1 ORDER BY (t.accepted IS f.attempt) DESC, f.id DESC",
            (number, job, "/".join(rest)),
        ).fetchall()
        if rows:
            return _files(rows)
    return []


def files_of(db: sqlite3.Connection, attempt: int) -> list[FileRecord]:
    """What an attempt made."""
    return _files(db.execute(f"{_FILE} WHERE f.attempt = ? ORDER BY f.output, f.id", (attempt,)).fetchall())


def packs(db: sqlite3.Connection, digest: str) -> list[tuple[int, str]]:
    """(number, name) of datasets whose shipped files are the bytes with this sha256."""
    if len(digest) != 64:
        return []
    return db.execute("SELECT id, name FROM dataset WHERE pack = ? ORDER BY id DESC", (bytes.fromhex(digest),)).fetchall()


def made_by(db: sqlite3.Connection, attempt: int) -> MadeBy:
    """One attempt."""
    row = db.execute(
        "SELECT a.id, a.key, d.id, d.name, d.uuid, d.deleted, d.seed, t.task_def, k.name, t.job, k.final, a.try, a.state, t.accepted, a.void, s.name, "
        "h.text, g.name, a.begun, a.staging, a.running, a.storing, a.cpu, a.rss, a.exit, a.stats, w.text "
        "FROM attempt a JOIN task t ON t.id = a.task JOIN task_def k ON k.id = t.task_def JOIN dataset d ON d.id = t.dataset "
        "JOIN site s ON s.id = a.site LEFT JOIN agent g ON g.id = a.agent LEFT JOIN name h ON h.id = g.host "
        "LEFT JOIN name w ON w.id = a.had WHERE a.id = ?",
        (attempt,),
    ).fetchone()
    (number, key, dataset, name, uuid, deleted, seed, task_def, task, job, final, tries, state, accepted, void, site, host, agent, begun, *rest) = row
    staging, running, storing, cpu, rss, exit_, stats, software = rest
    phases = [one for one in (staging, running, storing) if one is not None]
    group = ""
    if final == 2:
        found = db.execute("SELECT key FROM final_left WHERE dataset = ? AND task_def = ? AND grp = ?", (dataset, task_def, -1 - job)).fetchone()
        group = "" if found is None else str(found[0])
    return MadeBy(
        number, key.hex(), dataset, name, uuid, deleted is not None, seed, task_def, task, job, group, tries, Attempt(state).name.lower(),
        accepted == number, bool(void), site, host, agent, begun, sum(phases) / 1000 if phases else None, None if cpu is None else cpu / 1000,
        None if rss is None else rss * 1024, exit_, json.loads(stats) if stats else {}, software,
    )  # fmt: skip


def inputs_of(db: sqlite3.Connection, definitions: Definitions, attempt: int) -> Iterator[Read]:
    """What an attempt read, in the order of its task's inputs; of a final task the outputs of all members, in the order of jobs."""
    dataset, task_def, job, card = db.execute(
        "SELECT t.dataset, t.task_def, t.job, a.card FROM attempt a JOIN task t ON t.id = a.task WHERE a.id = ?", (attempt,)
    ).fetchone()
    definition = definitions.task_def(task_def)
    jobs = int(db.execute("SELECT jobs FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
    for one in definition.inputs:
        if definition.final:
            yield from _members(db, definitions, definition, one, (attempt, dataset, jobs, -1 - job))
            continue
        task = db.execute("SELECT id FROM task WHERE dataset = ? AND job = ? AND task_def = ?", (dataset, job, one.parent)).fetchone()
        if task is None:
            continue
        mate = db.execute("SELECT max(id) FROM attempt WHERE task = ? AND card = ? AND id < ?", (task[0], card, attempt)).fetchone()[0]
        parent = mate or _parent(db, task[0], attempt)
        if parent is not None:
            yield from _outputs(db, definitions, one, parent, "")
    if definition.given:
        for one_given in given(db, dataset, job, there=False):
            yield Read(one_given.name, one_given.sha256.hex(), one_given.bytes, one_given.attempt)


def _parent(db: sqlite3.Connection, task: int, before: int) -> int | None:
    """The attempt of a task that was accepted when attempt ``before`` was dealt."""
    row = db.execute(
        "SELECT max(a.id) FROM attempt a WHERE a.task = ? AND a.id < ? AND a.state = ? AND (EXISTS (SELECT 1 FROM file f WHERE f.attempt = a.id) "
        "OR EXISTS (SELECT 1 FROM task t WHERE t.accepted = a.id AND t.id = a.task))",
        (task, before, int(Attempt.OK)),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _outputs(db: sqlite3.Connection, definitions: Definitions, one: InputRow, parent: int, prefix: str) -> Iterator[Read]:
    rows = db.execute("SELECT name, sha256, bytes FROM file WHERE attempt = ? AND output = ? ORDER BY id", (parent, one.output)).fetchall()
    for name, digest, size in rows:
        yield Read(prefix + name, digest.hex(), size, parent)
    counted = db.execute("SELECT 1 FROM file WHERE attempt = ?", (parent,)).fetchone()
    if not rows and counted is None:
        # it shared a card with one that never counted: what it left was read, and not recorded
        yield Read(prefix + definitions.task_def(one.parent).outputs[one.output].name, None, None, parent)


def _members(
    db: sqlite3.Connection, definitions: Definitions, definition: TaskDefRow, one: InputRow, of: tuple[int, int, int, int]
) -> Iterator[Read]:
    attempt, dataset, jobs, group = of
    grouped = " AND job IN (SELECT job FROM job_group WHERE task_def = ? AND grp = ?)" if definition.final == 2 else ""
    values = (definition.id, group) if grouped else ()
    tasks = db.execute(
        f"SELECT job, id FROM task INDEXED BY task_job WHERE dataset = ? AND job >= 0 AND task_def = ? AND state <> ?{grouped} ORDER BY job",
        (dataset, one.parent, int(Task.CANCELLED), *values),
    ).fetchall()
    name = definitions.task_def(one.parent).name
    for job, task in tasks:
        parent = _parent(db, task, attempt)
        if parent is not None:
            yield from _outputs(db, definitions, one, parent, f"inputs/{name}/{job_folder(job, jobs)}/")


def revision(db: sqlite3.Connection, dataset: int, attempt: int | None = None) -> Revision:
    """What described the dataset when this attempt was made; without one: now."""
    if attempt is not None:
        row = db.execute(
            "SELECT number, at, jobs, definition, steering, pack FROM revision WHERE dataset = ? AND until >= ? ORDER BY number LIMIT 1", (dataset, attempt)
        ).fetchone()
        if row is not None:
            return Revision(row[0], row[1], row[2], row[3], row[4], None if row[5] is None else row[5].hex())
    older = int(db.execute("SELECT coalesce(max(number), 0) FROM revision WHERE dataset = ?", (dataset,)).fetchone()[0])
    row = db.execute("SELECT jobs, definition, steering, pack FROM dataset WHERE id = ?", (dataset,)).fetchone()
    return Revision(older + 1, None, row[0], row[1], row[2], None if row[3] is None else row[3].hex())


def earlier(db: sqlite3.Connection, dataset: int) -> list[Revision]:
    """What described the dataset before, the first one first."""
    rows = db.execute("SELECT number, at, jobs, definition, steering, pack FROM revision WHERE dataset = ? ORDER BY number", (dataset,)).fetchall()
    return [Revision(row[0], row[1], row[2], row[3], row[4], None if row[5] is None else row[5].hex()) for row in rows]


def key_of(db: sqlite3.Connection, attempt: int) -> str:
    """The name that an attempt goes by."""
    return str(db.execute("SELECT lower(hex(key)) FROM attempt WHERE id = ?", (attempt,)).fetchone()[0])


def attempts(db: sqlite3.Connection, dataset: int, first: int, last: int) -> list[int]:
    """Numbers of the accepted attempts of jobs first..last, by job and task."""
    rows = db.execute(
        "SELECT accepted FROM task INDEXED BY task_job WHERE dataset = ? AND job BETWEEN ? AND ? AND accepted IS NOT NULL ORDER BY job, task_def",
        (dataset, first, last),
    ).fetchall()
    return [int(row[0]) for row in rows]


def counted(db: sqlite3.Connection, dataset: int, task_def: int, output: int) -> int:
    """How many files of one output count, of all jobs."""
    row = db.execute(
        "SELECT count(*) FROM task t INDEXED BY task_job JOIN file f ON f.attempt = t.accepted WHERE t.dataset = ? AND t.job >= 0 AND t.task_def = ? "
        "AND f.output = ?",
        (dataset, task_def, output),
    ).fetchone()
    return int(row[0])

"""Outputs on their way home, and when a site need hold them no longer (hides the file machine's rows)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from icp.ledger.definitions import Definitions
from icp.ledger.fold import Fold
from icp.ledger.readers import drop_readerless
from icp.states import FILE, Agent, File

__all__ = [
    "Coming",
    "any_folder",
    "arrived",
    "awaited",
    "coming",
    "drops",
    "final_folder",
    "gone",
    "home_path",
    "job_folder",
    "lost",
    "missing",
    "origin",
    "relay_gone",
    "relay_path",
    "set_collecting",
    "sweep",
    "travelling",
    "unlinked",
    "unlinking",
    "want_away",
    "wanted",
]


@dataclass(frozen=True, slots=True)
class Coming:
    """An output that is wanted at home, to be kept or for a task at another site: from which attempt, and where it will be."""

    file: int
    attempt: str
    index: int
    name: str
    size: int
    sha256: bytes
    dataset: int
    target: Path
    kept: bool = True


def job_folder(job: int, jobs: int) -> str:
    """The folder of a job below a dataset's outputs: at least six digits wide."""
    return f"{job:0{max(6, len(str(max(0, jobs - 1))))}d}"


def final_folder(group: int) -> str:
    """The folder of one group of a final task below a dataset's outputs."""
    return f"final/{group:06d}"


def any_folder(job: int, jobs: int) -> str:
    """The folder below a dataset's outputs; ``job`` is -1 - group for a final task."""
    return job_folder(job, jobs) if job >= 0 else final_folder(-1 - job)


def home_path(outputs: str, jobs: int, job: int, name: str) -> Path:
    """Where an output is kept; ``job`` is -1 - group for a final task."""
    return Path(outputs) / any_folder(job, jobs) / name


def relay_path(relay: Path, file: int, digest: bytes) -> Path:
    """Where an output that is not kept lies at home while a task elsewhere reads it."""
    return relay / f"{digest.hex()}.{file}"


def coming(db: sqlite3.Connection, site: int, limit: int, relay: Path | None = None) -> list[Coming]:
    """Outputs at a site that are wanted at home and are not: those first that a task elsewhere waits for (to be put below ``relay``), then the oldest."""
    found: list[Coming] = []
    if relay is not None:
        rows = db.execute(
            "SELECT f.id, a.key, f.output, f.name, f.bytes, f.sha256, t.dataset FROM file f INDEXED BY file_relaying JOIN attempt a ON a.id = f.attempt "
            "JOIN task t ON t.id = a.task WHERE f.live = 1 AND f.kept = 0 AND f.state = 1 AND a.site = ? ORDER BY f.id LIMIT ?",
            (site, limit),
        ).fetchall()
        found = [Coming(row[0], row[1].hex(), row[2], row[3], row[4], row[5], row[6], relay_path(relay, row[0], row[5]), kept=False) for row in rows]
    rows = db.execute(
        "SELECT f.id, a.key, f.output, f.name, f.bytes, f.sha256, t.dataset, d.outputs, d.jobs, t.job "
        "FROM file f INDEXED BY file_wanted JOIN attempt a ON a.id = f.attempt JOIN task t ON t.id = a.task JOIN dataset d ON d.id = t.dataset "
        "WHERE f.live = 1 AND f.kept = 1 AND f.state IN (0, 1, 2) AND a.site = ? ORDER BY f.state DESC, f.id LIMIT ?",
        (site, limit),
    ).fetchall()
    return found + [
        Coming(row[0], row[1].hex(), row[2], row[3], row[4], row[5], row[6], home_path(row[7], row[8], row[9], row[3])) for row in rows
    ]


def travelling(db: sqlite3.Connection, limit: int) -> int:
    """Outputs on their way home, ``limit`` at the most: so many tasks may wait for one."""
    counted = "SELECT count(*) FROM (SELECT 1 FROM file INDEXED BY {} WHERE live = 1 AND kept = {} AND state {} LIMIT ?)"
    rows = [db.execute(counted.format(*one), (limit,)).fetchone() for one in (("file_relaying", 0, "= 1"), ("file_wanted", 1, "IN (0, 1, 2)"))]
    return min(limit, sum(int(row[0]) for row in rows))


def origin(db: sqlite3.Connection, file: int) -> int:
    """The site (its id) at which a file was made."""
    return int(db.execute("SELECT a.site FROM file f JOIN attempt a ON a.id = f.attempt WHERE f.id = ?", (file,)).fetchone()[0])


def want_away(db: sqlite3.Connection, files: Iterable[int]) -> bool:
    """A task at another site reads these: they shall come home. Whether that is new of some."""
    changes = [(int(File.RELAYING), one, int(File.PRODUCED)) for one in files]
    return db.executemany("UPDATE file SET state = ? WHERE id = ? AND live = 1 AND kept = 0 AND state = ?", changes).rowcount > 0


def relay_gone(db: sqlite3.Connection, file: int) -> None:
    """The relay cache has lost a file: its site still holds it, or will say that it does not, and it is brought again."""
    db.execute(
        "INSERT OR IGNORE INTO replica (attempt, site) SELECT f.attempt, a.site FROM file f JOIN attempt a ON a.id = f.attempt "
        "WHERE f.id = ? AND f.kept = 0 AND f.state = ?",
        (file, int(File.HOME)),
    )
    db.execute("UPDATE file SET state = ? WHERE id = ? AND kept = 0 AND state = ?", (int(File.PRODUCED), file, int(File.HOME)))


def wanted(db: sqlite3.Connection, file: int) -> bool:
    """Whether a file is to be at home, or on its way there."""
    row = db.execute("SELECT live, kept, state FROM file WHERE id = ?", (file,)).fetchone()
    return row is not None and row[2] not in (File.LOST, File.DROPPED)


def unlinking(db: sqlite3.Connection, limit: int = 5000) -> list[tuple[int, str, bytes]]:
    """(file, attempt, sha256) of what need not lie at home any more, whole or in part."""
    rows = db.execute("SELECT u.file, a.key, u.sha256 FROM unlinking u JOIN attempt a ON a.id = u.attempt LIMIT ?", (limit,)).fetchall()
    return [(row[0], row[1].hex(), row[2]) for row in rows]


def unlinked(db: sqlite3.Connection, files: Iterable[int]) -> None:
    """These are removed."""
    db.executemany("DELETE FROM unlinking WHERE file = ?", [(one,) for one in files])


def awaited(db: sqlite3.Connection, tasks: Iterable[int]) -> list[tuple[str, str, File, float | None]]:
    """(name, site, state, since when that site does not answer) of outputs of these tasks that come home for tasks elsewhere, or would."""
    found: list[tuple[str, str, File, float | None]] = []
    for task in tasks:
        rows = db.execute(
            "SELECT f.name, s.name, f.state, s.unreachable FROM file f JOIN attempt a ON a.id = f.attempt JOIN site s ON s.id = a.site "
            "WHERE f.attempt = (SELECT accepted FROM task WHERE id = ?) AND f.live = 1 "
            "AND (f.state = ? OR (s.unreachable IS NOT NULL AND f.state IN (?, ?)))",
            (task, int(File.RELAYING), int(File.PRODUCED), int(File.COLLECTING)),
        ).fetchall()
        found += [(row[0], row[1], File(row[2]), row[3]) for row in rows]
    return found


def set_collecting(db: sqlite3.Connection, files: Iterable[int]) -> None:
    """These, which are kept, are asked for in this exchange."""
    db.executemany("UPDATE file SET state = ? WHERE id = ? AND state = ?", [(int(File.COLLECTING), one, int(File.PRODUCED)) for one in files])


def arrived(db: sqlite3.Connection, definitions: Definitions, files: Iterable[Coming]) -> None:
    """Verified, durable and under their names at home."""
    attempts: set[int] = set()
    for one in files:
        row = db.execute("SELECT state, attempt FROM file WHERE id = ?", (one.file,)).fetchone()
        if row is None or not FILE.knows(File(row[0]), "verified"):
            continue  # un-accepted while it travelled
        db.execute("UPDATE file SET state = ? WHERE id = ?", (int(File.HOME), one.file))
        db.execute("UPDATE dataset SET coming = coming - ? WHERE id = ?", (int(one.kept), one.dataset))
        attempts.add(row[1])
    drop_readerless(db, definitions, attempts)


def missing(fold: Fold, one: Coming) -> bool:
    """The site has not got it, or not these bytes; at the second time it is lost, and its task runs again. True if lost."""
    return _missing(fold, one.file)


def lost(fold: Fold, file: int) -> bool:
    """A person says that the only site which has it is gone."""
    return _missing(fold, file, certain=True)


def _missing(fold: Fold, file: int, *, certain: bool = False) -> bool:
    db = fold.db
    row = db.execute(
        "SELECT f.state, f.misses, f.attempt, f.kept, a.task FROM file f JOIN attempt a ON a.id = f.attempt WHERE f.id = ?", (file,)
    ).fetchone()
    if row is None or not FILE.knows(File(row[0]), "missing"):
        return False
    _, misses, attempt, kept, task = row
    if misses == 0 and not certain:
        db.execute("UPDATE file SET misses = 1, state = ? WHERE id = ?", (int(File.PRODUCED), file))
        return False
    db.execute("UPDATE file SET misses = 2, state = ?, live = 0 WHERE id = ?", (int(File.LOST), file))
    fold.load_tasks([task])
    fold.coming[fold.tasks[task].dataset] -= kept
    if fold.tasks[task].accepted == attempt:
        fold.unaccept(fold.tasks[task], "output_lost")
    return True


def gone(fold: Fold, site: int, origin: list[str]) -> None:
    """A task found that its site lacks an input, ["store", attempt, name] or ["cache", sha256]: what is home is sent there (again)."""
    db = fold.db
    try:
        kind, key, *name = origin
        digest = bytes.fromhex(key)
    except ValueError:
        return
    if kind == "cache":
        db.execute("DELETE FROM cached WHERE site = ? AND sha256 = ?", (site, digest))
        return
    row = db.execute(
        "SELECT f.id, f.state, f.attempt FROM attempt a JOIN file f ON f.attempt = a.id WHERE a.key = ? AND a.site = ? AND f.name = ?",
        (digest, site, "".join(name)),
    ).fetchone()
    if row is None:
        return
    if row[1] == File.HOME:
        db.execute("DELETE FROM replica WHERE attempt = ? AND site = ?", (row[2], site))
    else:
        _missing(fold, row[0])


def sweep(db: sqlite3.Connection, definitions: Definitions, jobs_at_once: int = 500) -> bool:
    """Look at inputs of final tasks that ended, some jobs at a time; whether there is more to look at."""
    rows = db.execute("SELECT dataset, task_def, grp, swept FROM final_left INDEXED BY final_sweep WHERE made = 2 LIMIT 20").fetchall()
    for dataset, task_def, group, swept in rows:
        definition = definitions.task_def(task_def)
        parents = sorted({one.parent for one in definition.inputs})
        total = int(db.execute("SELECT jobs FROM dataset WHERE id = ?", (dataset,)).fetchone()[0])
        query = "SELECT accepted FROM task WHERE dataset = ? AND job >= ? AND job < ? AND task_def = ? AND accepted IS NOT NULL"
        if definition.final == 2:
            query += f" AND job IN (SELECT job FROM job_group WHERE task_def = {int(task_def)} AND grp = {int(group)})"
        attempts = [
            row[0] for parent in parents for row in db.execute(query, (dataset, swept, swept + jobs_at_once, parent)).fetchall()
        ]
        drop_readerless(db, definitions, attempts)
        done = swept + jobs_at_once >= total
        db.execute(
            "UPDATE final_left SET swept = ?, made = ? WHERE dataset = ? AND task_def = ? AND grp = ?",
            (swept + jobs_at_once, 3 if done else 2, dataset, task_def, group),
        )
    return bool(rows)


def drops(db: sqlite3.Connection, site: int, limit: int) -> list[str]:
    """Attempts whose outputs the site shall remove; the caller puts the order into the outbox of the same transaction.

    What a fenced agent held waits for that agent's end: until then it may write on.
    """
    rows = db.execute(
        "SELECT r.attempt, a.key FROM replica r INDEXED BY replica_dropping JOIN attempt a ON a.id = r.attempt LEFT JOIN agent g ON g.id = a.agent "
        "WHERE r.dropping = 1 AND r.site = ? AND coalesce(g.state, 0) <> ? LIMIT ?",
        (site, int(Agent.FENCED), limit),
    ).fetchall()
    db.executemany("DELETE FROM replica WHERE attempt = ? AND site = ?", [(row[0], site) for row in rows])
    return [row[1].hex() for row in rows]

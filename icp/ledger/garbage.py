"""What is kept at home and counts for nothing any more (hides how each kind is told from what counts)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from icp.ledger.files import home_path
from icp.model.definition import steering_from_json
from icp.states import File

__all__ = ["Kept", "Pack", "clear_outputs", "clear_packs", "coming_home", "fetched_for", "outputs_of_deleted", "packs_of_deleted", "relayed"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept output of a deleted dataset, under its name at home."""

    file: int
    dataset: int
    name: str
    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Files that were shipped with datasets which are all deleted."""

    sha256: bytes
    bytes: int
    names: tuple[str, ...]


def relayed(db: sqlite3.Connection, file: int) -> bool:
    """Whether this file may lie in the relay cache: it is wanted there, or on its way."""
    row = db.execute("SELECT kept, state FROM file WHERE id = ?", (file,)).fetchone()
    return row is not None and not row[0] and row[1] not in (File.LOST, File.DROPPED)


def coming_home(db: sqlite3.Connection, file: int) -> bool:
    """Whether this file may be on its way home in parts."""
    row = db.execute("SELECT state FROM file WHERE id = ?", (file,)).fetchone()
    return row is not None and row[0] in (File.PRODUCED, File.RELAYING, File.COLLECTING)


def fetched_for(db: sqlite3.Connection) -> set[str]:
    """What datasets that count, or still have something at work, had fetched: sha256 of tarballs, commits and (16 digits of the) sha256 of modules."""
    counts = (
        "(d.deleted IS NULL OR d.state IN (0, 1) OR EXISTS (SELECT 1 FROM live_class c WHERE c.dataset = d.id AND c.n > 0) "
        "OR EXISTS (SELECT 1 FROM task t JOIN attempt a ON a.task = t.id AND a.live = 1 WHERE t.dataset = d.id))"
    )
    rows = db.execute(
        f"SELECT d.definition FROM dataset d WHERE {counts} UNION ALL "
        f"SELECT r.definition FROM revision r JOIN dataset d ON d.id = r.dataset WHERE {counts}"
    )
    found: set[str] = set()
    for (text,) in rows:
        steering = steering_from_json(json.loads(text))
        found |= {tarball.sha256 for one in steering.software.values() for tarball in one.tarballs}
        for origin in [module.origin for task in steering.all_tasks for tray in task.trays for module in tray.modules if module.origin]:
            found |= {origin.commit, origin.sha256[:16]}
    return found


def outputs_of_deleted(db: sqlite3.Connection) -> list[Kept]:
    """What lies at home of deleted datasets, but for what a dataset that counts has at the same place."""
    found = []
    taken = {row[0] for row in db.execute("SELECT outputs FROM dataset WHERE deleted IS NULL").fetchall()}
    deleted = db.execute("SELECT id, name, outputs, jobs FROM dataset WHERE deleted IS NOT NULL").fetchall()
    for dataset, name, outputs, jobs in deleted:
        if outputs in taken:
            continue
        rows = db.execute(
            "SELECT f.id, f.name, f.bytes, f.sha256, t.job FROM task t INDEXED BY task_job JOIN file f ON f.attempt = t.accepted "
            "WHERE t.dataset = ? AND NOT EXISTS (SELECT 1 FROM source s JOIN dataset r ON r.id = s.dataset AND r.deleted IS NULL JOIN file g ON g.id = s.file "
            "WHERE s.task = t.id AND g.output = f.output) AND NOT EXISTS (SELECT 1 FROM arrival a WHERE a.file = f.id) "
            f"AND f.kept = 1 AND f.state IN ({int(File.HOME)}, {int(File.DROPPED)})",
            (dataset,),
        ).fetchall()
        found += [Kept(number, dataset, name, home_path(outputs, jobs, job, file), size, digest.hex()) for number, file, size, digest, job in rows]
    return found


def clear_outputs(db: sqlite3.Connection, files: Iterable[int]) -> None:
    """These are not home any more; the ledger goes on to know what they were."""
    db.executemany("UPDATE file SET state = ?, live = 0 WHERE id = ? AND state = ?", [(int(File.DROPPED), one, int(File.HOME)) for one in files])


def packs_of_deleted(db: sqlite3.Connection) -> list[Pack]:
    """Packs that no dataset which counts ships, nor shipped, and that no attempt or transfer still needs."""
    rows = db.execute(
        "SELECT b.sha256, b.bytes FROM blob b WHERE b.data IS NOT NULL AND EXISTS (SELECT 1 FROM dataset d WHERE d.pack = b.sha256) "
        "AND NOT EXISTS (SELECT 1 FROM dataset d WHERE d.pack = b.sha256 AND (d.deleted IS NULL OR d.state IN (0, 1) "
        "OR EXISTS (SELECT 1 FROM live_class c WHERE c.dataset = d.id AND c.n > 0) "
        "OR EXISTS (SELECT 1 FROM task t JOIN attempt a ON a.task = t.id AND a.live = 1 WHERE t.dataset = d.id))) "
        "AND NOT EXISTS (SELECT 1 FROM revision r JOIN dataset d ON d.id = r.dataset WHERE r.pack = b.sha256 AND d.deleted IS NULL) "
        "AND NOT EXISTS (SELECT 1 FROM sending s WHERE s.sha256 = b.sha256)"
    ).fetchall()
    found = []
    for digest, size in rows:
        names = db.execute("SELECT DISTINCT name FROM dataset WHERE pack = ? ORDER BY name", (digest,)).fetchall()
        found.append(Pack(digest, size, tuple(str(row[0]) for row in names)))
    return found


def clear_packs(db: sqlite3.Connection, packs: Iterable[bytes]) -> None:
    """Their bytes go; which they were is still known."""
    db.executemany("DELETE FROM blob WHERE sha256 = ?", [(one,) for one in packs])

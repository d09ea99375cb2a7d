"""Files that are said to be at home, and are or are not (hides where they lie)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from icp.ledger.check.chunks import Found, chunks
from icp.ledger.files import home_path, relay_path
from icp.pilot.digest import digest_of
from icp.states import File

__all__ = ["home_files", "missing", "relayed"]


def home_files(db: sqlite3.Connection) -> Iterator[tuple[int, Path, int, bytes]]:
    for chunk in chunks(db, "file"):
        for number, name, size, digest, job, outputs, jobs in db.execute(
            "SELECT f.id, f.name, f.bytes, f.sha256, t.job, d.outputs, d.jobs FROM file f JOIN attempt a ON a.id = f.attempt "
            "JOIN task t ON t.id = a.task JOIN dataset d ON d.id = t.dataset "
            f"WHERE f.id BETWEEN ? AND ? AND f.kept = 1 AND f.state = {int(File.HOME)} AND d.deleted IS NULL",
            chunk,
        ).fetchall():
            yield number, home_path(outputs, jobs, job, name), size, digest


def relayed(db: sqlite3.Connection) -> Iterator[tuple[int, Path, int, bytes]]:
    """What lies in the relay cache; a ledger that no engine had in hand yet does not know where that is."""
    row = db.execute("SELECT value FROM meta WHERE key = 'relay'").fetchone()
    for chunk in chunks(db, "file") if row is not None else ():
        for number, size, digest in db.execute(
            f"SELECT id, bytes, sha256 FROM file WHERE id BETWEEN ? AND ? AND kept = 0 AND state = {int(File.HOME)} AND live = 1", chunk
        ).fetchall():
            path = relay_path(Path(row[0]), number, digest)
            if path.exists():  # one that is gone is brought again
                yield number, path, size, digest


def missing(files: list[tuple[int, Path, int, bytes]], *, deep: bool) -> Found:
    for number, path, size, digest in files:
        try:
            found = path.stat().st_size
            if found != size:
                yield f"file {number} is home as {path}, with {found} bytes instead of {size}"
            elif deep and digest_of(path) != digest.hex():
                yield f"file {number} is home as {path}, with another sha256 than {digest.hex()}"
        except OSError as error:
            yield f"file {number} is home as {path}, which cannot be read: {error.strerror}"

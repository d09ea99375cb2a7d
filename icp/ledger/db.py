"""Opening the ledger: pragmas, migrations, write transactions and the engine's lease (hides SQLite's habits)."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icp import states
from icp.errors import BadInput, Locked, NotFound, Refused

__all__ = ["VERSION", "Ledger", "backup", "file_system", "is_network", "open_ledger", "sqlite_version"]

VERSION = 2
_HERE = Path(__file__).parent
_NETWORK = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "afs", "ceph", "fuse.sshfs", "panfs", "9p")
_GUARDED = {"attempt": states.ATTEMPT, "agent": states.AGENT, "pilot": states.PILOT, "file": states.FILE, "dataset": states.DATASET}


def triggers() -> str:
    """SQL that refuses a change of state which no sequence of events of icp.states can make."""
    parts = []
    for table, machine in _GUARDED.items():
        masks = dict.fromkeys(machine.states, 0)
        for before, after in machine.pairs():
            masks[before] |= 1 << after
        cases = " ".join(f"WHEN {state.value} THEN {mask}" for state, mask in masks.items())
        parts.append(
            f"CREATE TRIGGER {table}_moves BEFORE UPDATE OF state ON {table} "
            f"WHEN ((CASE OLD.state {cases} END) >> NEW.state) & 1 = 0 "
            f"BEGIN SELECT RAISE(ABORT, '{table}: no such change of state'); END;"
        )
    return "\n".join(parts)


class Ledger:
    """One connection to one ledger file.

    ``write()`` is the only way to change it: BEGIN IMMEDIATE, and with a lease the check that no other engine took
    over meanwhile. Readers fetch everything and hold no cursor.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.db = connection
        self.term: int | None = None

    @property
    def uuid(self) -> str:
        return str(self.meta("uuid"))

    def meta(self, key: str, default: Any = None) -> Any:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else row[0]

    def set_meta(self, key: str, value: Any) -> None:
        self.db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; an exception in it rolls everything back."""
        with self._told_if_locked():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                if self.term is not None and self.meta("term") != self.term:
                    raise Refused("another engine took over this ledger while this one slept", "nothing was written; let the other go on")
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view over several queries."""
        with self._told_if_locked():
            self.db.execute("BEGIN")
            try:
                yield self.db
            finally:
                self.db.execute("ROLLBACK")

    @contextmanager
    def _told_if_locked(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "lock" not in str(error):
                raise
            raise Locked(f"{self.path} is locked by another process for too long", "try again; `icp run` and cron's ticks hold it for moments only") from None

    def wait_no_longer_than(self, seconds: float) -> None:
        """For a lock that another process holds (a minute otherwise): then Locked is raised."""
        self.db.execute(f"PRAGMA busy_timeout = {round(1000 * seconds)}")

    def take_lease(self, now: float, by: str | None = None) -> int:
        """Become the engine of this ledger (the caller holds the lock file): earlier engines can write no more. ``by``: what started it, if no person."""
        self.term = None
        with self.write() as db:
            term = int(self.meta("term", 0)) + 1
            self.set_meta("term", term)
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "by": by}
            self.set_meta("engine", json.dumps(holder))
            del db
        self.term = term
        self.db.execute("PRAGMA wal_autocheckpoint = 1000")
        return term

    def name_id(self, text: str) -> int:
        """The number of an interned string."""
        row = self.db.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
        if row is None:
            row = (self.db.execute("INSERT INTO name (text) VALUES (?)", (text,)).lastrowid,)
        return int(row[0])

    def audit(self, now: float, what: str, dataset: int | None = None, detail: str | None = None) -> None:
        """Note a person's command for good."""
        try:
            who = getpass.getuser()
        except (KeyError, OSError):
            who = str(os.getuid())
        self.db.execute(
            "INSERT INTO command (at, who, what, dataset, detail) VALUES (?, ?, ?, ?, ?)", (now, who, what, dataset, detail)
        )

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, as far as no reader is in the way: only the engine does."""
        self.db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self.db.close()


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, as /proc/mounts names it; "" where that cannot be told."""
    try:
        target = path.resolve()
        best, kind = "", ""
        for line in Path("/proc/mounts").read_text().splitlines():
            _, place, name = line.split(" ")[:3]
            place = place.replace("\\040", " ")
            inside = target == Path(place) or Path(place) in target.parents
            if inside and len(place) >= len(best):
                best, kind = place, name
        return kind
    except OSError:
        return ""


def sqlite_version() -> tuple[int, int, int]:
    """Of the library that this Python has."""
    major, minor, patch = sqlite3.sqlite_version_info[:3]
    return major, minor, patch


def is_network(path: Path) -> bool:
    return file_system(path) in _NETWORK


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA busy_timeout = 60000")
        mode = db.execute("PRAGMA journal_mode").fetchone()[0]
        wanted = "delete" if is_network(path) else "wal"
        if mode != wanted and not read_only:
            # WAL needs shared memory, which network file systems do not give
            db.execute(f"PRAGMA journal_mode = {wanted}")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -32000")
        # only the engine, under its lock, checkpoints
        db.execute("PRAGMA wal_autocheckpoint = 0")
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{path} cannot be opened as a ledger: {error}", "restore a backup, or move the file away") from None
    return db


def _create(db: sqlite3.Connection) -> None:
    db.executescript(
        "BEGIN IMMEDIATE;" + (_HERE / "schema.sql").read_text() + triggers() + f"PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise Refused(f"{path} was written by a newer icp (ledger version {version}, this one knows {VERSION})", "upgrade icp-pool")
    for number in range(version + 1, VERSION + 1):
        text = (_HERE / "migrations" / f"{number:04d}.sql").read_text()
        # the tables of states may have grown since the triggers were made
        anew = "".join(f"DROP TRIGGER IF EXISTS {table}_moves;" for table in _GUARDED) + triggers()
        db.executescript(f"BEGIN IMMEDIATE;{text}{anew}PRAGMA user_version = {number}; COMMIT;")


def open_ledger(path: Path, *, create: bool = False, now: float | None = None) -> Ledger:
    """Open the ledger at ``path``, brought up to this version; with ``create`` make an empty one where there is none."""
    if not path.exists():
        if not create:
            raise NotFound(f"there is no ledger at {path}", "`icp submit steering.toml` makes one, `icp demo` shows how it looks")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        db = _connect(fresh)
        _create(db)
        ledger = Ledger(fresh, db)
        with ledger.write():
            ledger.set_meta("uuid", str(uuid.uuid4()))
            ledger.set_meta("made", time.time() if now is None else now)
        db.execute("PRAGMA journal_mode = delete")
        db.close()
        try:
            os.link(fresh, path)  # two first commands at once: one ledger wins, and none is half made
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    db = _connect(path)
    try:
        tables = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'dataset'").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{path} is not a ledger: {error}", "restore a backup, or move the file away") from None
    if not tables:
        raise BadInput(f"{path} is not a ledger: it has no datasets' table", "restore a backup, or move the file away")
    _migrate(db, path)
    return Ledger(path, db)


def backup(ledger: Ledger, target: Path) -> None:
    """Write a checked copy in one step: never half of a transaction, never a copy that grows while it is made."""
    if target.exists():
        raise BadInput(f"{target} exists already", "name a file that does not exist")
    if not target.parent.is_dir():
        raise BadInput(f"{target.parent} is not a directory", "make it first")
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    copy = sqlite3.connect(part)
    try:
        ledger.db.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = delete")
        answer = copy.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        copy.close()
    if answer != "ok":
        part.unlink()
        raise Refused(f"the copy did not pass SQLite's integrity check: {answer}", "look at the disk under the ledger")
    os.replace(part, target)

"""Identical failures and no success suspend a dataset (hides fingerprints and the count of the last errors that are the same)."""

from __future__ import annotations

import hashlib
import re
import sqlite3

from icp.ledger import notices
from icp.ledger.definitions import Definitions
from icp.states import DATASET, Dataset, Task

__all__ = ["StopLoss", "fingerprint"]

_HEX = re.compile(r"\b(?:0x)?[0-9a-fA-F]{8,}\b")
_PATH = re.compile(r"(?<![\w.])/[^\s:'\",;)]+")


def fingerprint(kind: str, exit_: int | None, text: str) -> bytes:
    """What makes two errors the same: kind, exit and the last non-empty line without digits, hex runs and absolute paths."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    last = re.sub(r"\d", "#", _HEX.sub("", _PATH.sub("", last)))
    return hashlib.sha256(f"{kind}\0{exit_}\0{last}".encode()).digest()[:16]


class StopLoss:
    """What one transaction adds to the last errors of each task definition."""

    def __init__(self, db: sqlite3.Connection, definitions: Definitions) -> None:
        self.db, self.definitions = db, definitions
        self._last: dict[int, tuple[bytes | None, int]] = {}
        self._suspended: set[int] = set()

    def error(self, task_def: int, mark: bytes) -> None:
        same, n = self._of(task_def)
        self._last[task_def] = (mark, n + 1 if same == mark else 1)

    def ok(self, task_def: int) -> None:
        if self._of(task_def)[1]:
            self._last[task_def] = (None, 0)

    def _of(self, task_def: int) -> tuple[bytes | None, int]:
        if task_def not in self._last:
            row = self.db.execute("SELECT same_error, same_errors FROM task_def WHERE id = ?", (task_def,)).fetchone()
            self._last[task_def] = (row[0], row[1])
        return self._last[task_def]

    def write(self) -> None:
        """Keep the counts; suspend what reached its bar, and recall its unclaimed cards."""
        for task_def, (mark, n) in self._last.items():
            self.db.execute("UPDATE task_def SET same_error = ?, same_errors = ? WHERE id = ?", (mark, n, task_def))
            dataset = self.definitions.task_def(task_def).dataset
            if not n or dataset in self._suspended:
                continue
            state, bar = self.db.execute("SELECT state, stop_loss FROM dataset WHERE id = ?", (dataset,)).fetchone()
            if bar and n >= bar and DATASET.knows(Dataset(state), "stop_loss"):
                name = self.definitions.task_def(task_def).name
                why = f"stop-loss: the last {n} errors of task {name} are the same and none was ok since"
                self.db.execute("UPDATE dataset SET state = ?, reason = ? WHERE id = ?", (int(Dataset.SUSPENDED), why, dataset))
                called = self.db.execute("SELECT name FROM dataset WHERE id = ?", (dataset,)).fetchone()[0]
                notices.add(self.db, "stop-loss", f"dataset {called} is suspended by {why}; `icp why {called}`", dataset=dataset)
                self.db.execute(
                    "UPDATE attempt SET stop = 1 WHERE live = 1 AND state = 0 AND stop = 0 AND task IN "
                    "(SELECT id FROM task WHERE dataset = ? AND live = 1 AND state = ?)",
                    (dataset, int(Task.QUEUED)),
                )
                self._suspended.add(dataset)

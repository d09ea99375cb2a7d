"""Rows of tasks and attempts as one transaction works on them: loaded together with what they hang on (hides the reading)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.rows import AttemptRow, TaskRow, read_attempts, read_tasks

__all__ = ["WorkingSet"]


class WorkingSet:
    """Tasks, their live attempts, and the whole job of a task of a DAG; every row is one object, however often it is asked for."""

    def __init__(self, ledger: Ledger, definitions: Definitions) -> None:
        self.ledger, self.db, self.definitions = ledger, ledger.db, definitions
        self.tasks: dict[int, TaskRow] = {}
        self.by_job: dict[tuple[int, int], dict[int, TaskRow]] = {}
        self.attempts: dict[int, AttemptRow] = {}
        self.by_key: dict[bytes, AttemptRow] = {}
        self.live_of: dict[int, list[AttemptRow]] = {}

    def load_keys(self, keys: Iterable[bytes]) -> None:
        self.load(read_attempts(self.db, "key", (key for key in keys if key not in self.by_key)))

    def load(self, attempts: Iterable[AttemptRow]) -> None:
        """Take attempts in, with their tasks, those tasks' other live attempts, and their jobs where a DAG asks for it."""
        fresh = [row for row in attempts if row.id not in self.attempts]
        for row in fresh:
            self._keep_attempt(row)
        self.load_tasks({row.task for row in fresh})

    def _keep_attempt(self, row: AttemptRow) -> None:
        self.attempts[row.id] = row
        self.by_key[row.key] = row
        if row.live and row.task in self.live_of and row not in self.live_of[row.task]:
            self.live_of[row.task].append(row)

    def load_tasks(self, ids: Iterable[int]) -> None:
        self.take(read_tasks(self.db, "id", [one for one in ids if one not in self.tasks]))

    def load_jobs(self, dataset: int, jobs: Iterable[int]) -> None:
        """All tasks of these jobs (of the dataset; final tasks too, by their negative numbers) with their live attempts."""
        wanted = [job for job in jobs if (dataset, job) not in self.by_job]
        for job in wanted:
            self.by_job[(dataset, job)] = {}
        self.take(self._read_jobs(dataset, wanted))

    def _read_jobs(self, dataset: int, jobs: list[int]) -> list[TaskRow]:
        return read_tasks(self.db, f"dataset = {int(dataset)} AND job", jobs) if jobs else []

    def take(self, rows: Iterable[TaskRow]) -> None:
        """Take tasks in that were just read, with their live attempts, and with their whole job where it is a DAG."""
        todo = list(rows)
        while todo:
            fresh = [row for row in todo if row.id not in self.tasks]
            missing: dict[int, set[int]] = defaultdict(set)
            for row in fresh:
                self.tasks[row.id] = row
                self.live_of[row.id] = []
                if (row.dataset, row.job) not in self.by_job and row.job >= 0:
                    definition = self.definitions.task_def(row.task_def)
                    if definition.children or definition.parents:
                        missing[row.dataset].add(row.job)
            for row in todo:
                job = self.by_job.get((row.dataset, row.job))
                if job is not None:
                    job[row.task_def] = self.tasks[row.id]
            for attempt in read_attempts(self.db, "task", [row.id for row in fresh], "AND live = 1"):
                known = self.attempts.get(attempt.id)
                if known is None:
                    self._keep_attempt(attempt)
                elif known.live:
                    self.live_of[known.task].append(known)
            todo = []
            for dataset, jobs in missing.items():
                for number in jobs:
                    self.by_job[dataset, number] = {}
                todo += self._read_jobs(dataset, list(jobs))

    def take_attempt(self, row: AttemptRow) -> None:
        """A live attempt that was just inserted."""
        self._keep_attempt(row)

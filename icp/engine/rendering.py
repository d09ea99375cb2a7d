"""Definitions and jobs rendered for cards: one compiled renderer per task definition (hides where rows of jobs come from)."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icp.dsl.expand import JobContext, Renderer
from icp.ledger.datasets import job_row, read_dataset
from icp.ledger.definitions import Definitions
from icp.ledger.release import need_id
from icp.model.definition import Steering, steering_from_json
from icp.model.need import Need

if TYPE_CHECKING:
    import sqlite3

__all__ = ["DatasetRendering", "Rendering"]


@dataclass
class DatasetRendering:
    """What one dataset needs to be rendered."""

    number: int
    uuid: str
    name: str
    """What its jobs are told: the one that it was submitted with."""
    seed: int
    jobs: int
    outputs: str
    directory: str
    pack: bytes | None
    steering: Steering
    renderers: dict[int, Renderer]
    """by task_def.id"""
    row_of: Callable[[int], dict[str, Any]]

    def context(self, job: int, group: str | None = None) -> JobContext:
        return JobContext(self.name, self.seed, job, self.jobs, self.row_of(job) if job >= 0 else {}, group)


class Rendering:
    """Compiled definitions of the datasets at work."""

    def __init__(self, db: sqlite3.Connection, definitions: Definitions, size: int = 64) -> None:
        self.db, self.definitions, self.size = db, definitions, size
        self.datasets: OrderedDict[int, DatasetRendering] = OrderedDict()
        self._needs: dict[str, int] = {}
        self._seen: int | None = None

    def fresh(self) -> None:
        """At the begin of a transaction: if others wrote since the last one, datasets may be described otherwise."""
        version = int(self.db.execute("PRAGMA data_version").fetchone()[0])
        if version != self._seen:
            self._seen = version
            self.datasets.clear()
            self.definitions.forget()

    def dataset(self, number: int) -> DatasetRendering:
        found = self.datasets.get(number)
        if found is None:
            found = self.datasets[number] = self._read(number)
            while len(self.datasets) > self.size:
                self.datasets.popitem(last=False)
        return found

    def _read(self, number: int) -> DatasetRendering:
        row = read_dataset(self.db, number)
        steering = steering_from_json(json.loads(row.definition), text=row.steering)
        graph = self.definitions.graph(number)
        by_idx = {one.idx: one.id for one in graph.defs.values()}
        renderers = {by_idx[task.index]: Renderer(steering, task) for task in (*steering.tasks, *steering.finals)}
        return DatasetRendering(
            number, row.uuid, steering.name, row.seed, row.jobs, row.outputs, row.directory, row.pack, steering, renderers, self._rows(number, steering)
        )

    def _rows(self, number: int, steering: Steering) -> Callable[[int], dict[str, Any]]:
        if steering.jobs.kind != "rows":
            return steering.jobs.row
        columns = steering.jobs.columns

        def listed(job: int) -> dict[str, Any]:
            return dict(zip(columns, job_row(self.db, number, job), strict=True))

        return listed

    def need(self, task_def: int, job: int, tier: int = 0, group: str | None = None) -> Need:
        """What a task asks for, whatever its site."""
        dataset = self.dataset(self.definitions.task_def(task_def).dataset)
        return dataset.renderers[task_def].need(dataset.context(job, group), tier)

    def need_number(self, need: Need) -> int:
        """The number of an interned need (inside a write transaction)."""
        number = self._needs.get(need.id)
        if number is None:
            number = self._needs[need.id] = need_id(self.db, need)
        return number

    def forget_needs(self) -> None:
        """After a rollback: numbers that were not committed are nobody's."""
        self._needs.clear()

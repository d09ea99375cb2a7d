"""The task definitions of datasets as the ledger's rooms need them: edges, inputs, outputs, by row id (hides their tables).

They change only when a person replaces how a dataset is described, so a process reads each dataset's once until somebody else wrote.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Definitions", "Graph", "InputRow", "OutputRow", "TaskDefRow"]


@dataclass(frozen=True, slots=True)
class OutputRow:
    idx: int
    name: str
    kept: bool
    optional: bool
    glob: bool


@dataclass(frozen=True, slots=True)
class InputRow:
    parent: int
    """task_def.id"""
    output: int
    """output_def.idx of the parent"""


@dataclass(slots=True)
class TaskDefRow:
    id: int
    dataset: int
    idx: int
    name: str
    final: int
    """0: a task of a job; 1: final, all jobs are its group; 2: final with ``group_by``"""
    tries: int
    outputs: tuple[OutputRow, ...] = ()
    inputs: tuple[InputRow, ...] = ()
    parents: list[int] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    """tasks of the same job that wait for it"""
    finals: list[int] = field(default_factory=list)
    """final tasks that wait for it"""
    given: bool = False
    """It begins a job that was made from files of another dataset, and reads them."""
    listed: bool = False
    """... as a list of files."""


@dataclass(slots=True)
class Graph:
    """One dataset's definitions; ``tasks`` in topological order, then ``finals``."""

    dataset: int
    defs: dict[int, TaskDefRow]
    tasks: list[TaskDefRow]
    finals: list[TaskDefRow]

    def by_name(self, name: str) -> TaskDefRow | None:
        return next((row for row in self.defs.values() if row.name == name), None)

    def descendants(self, task_def: int) -> list[int]:
        """All tasks of the same job that depend on it, however far."""
        return self._follow(task_def, lambda one: one.children)

    def ancestors(self, task_def: int) -> list[int]:
        """All tasks that it depends on, however far."""
        return self._follow(task_def, lambda one: one.parents)

    def _follow(self, task_def: int, step: Callable[[TaskDefRow], list[int]]) -> list[int]:
        found: list[int] = []
        todo = [task_def]
        while todo:
            for one in step(self.defs[todo.pop()]):
                if one not in found:
                    found.append(one)
                    todo.append(one)
        return found


class Definitions:
    """A small cache over the definitions' tables."""

    def __init__(self, db: sqlite3.Connection, size: int = 512) -> None:
        self.db, self.size = db, size
        self.graphs: OrderedDict[int, Graph] = OrderedDict()
        self.dataset_of: dict[int, int] = {}

    def forget(self) -> None:
        """Others may have changed them."""
        self.graphs.clear()

    def graph(self, dataset: int) -> Graph:
        graph = self.graphs.get(dataset)
        if graph is None:
            graph = self.graphs[dataset] = self._read(dataset)
            while len(self.graphs) > self.size:
                self.graphs.popitem(last=False)
        return graph

    def task_def(self, task_def: int) -> TaskDefRow:
        dataset = self.dataset_of.get(task_def)
        if dataset is None:
            dataset = int(self.db.execute("SELECT dataset FROM task_def WHERE id = ?", (task_def,)).fetchone()[0])
            self.dataset_of[task_def] = dataset
        return self.graph(dataset).defs[task_def]

    def _read(self, dataset: int) -> Graph:
        rows = self.db.execute("SELECT id, idx, name, final, tries FROM task_def WHERE dataset = ? ORDER BY idx", (dataset,)).fetchall()
        defs = {row[0]: TaskDefRow(row[0], dataset, row[1], row[2], row[3], row[4]) for row in rows}
        for one in defs.values():
            self.dataset_of[one.id] = dataset
            one.outputs = tuple(
                OutputRow(row[0], row[1], bool(row[2]), bool(row[3]), bool(row[4]))
                for row in self.db.execute(
                    "SELECT idx, name, kept, optional, glob FROM output_def WHERE task_def = ? ORDER BY idx", (one.id,)
                ).fetchall()
            )
            one.inputs = tuple(
                InputRow(row[0], row[1])
                for row in self.db.execute("SELECT parent, output FROM input_def WHERE task_def = ? ORDER BY idx", (one.id,)).fetchall()
            )
            for (parent,) in self.db.execute("SELECT parent FROM edge WHERE child = ? ORDER BY parent", (one.id,)).fetchall():
                one.parents.append(parent)
                (defs[parent].finals if one.final else defs[parent].children).append(one.id)
        made_from = self.db.execute("SELECT grouped FROM follow WHERE dataset = ?", (dataset,)).fetchone()
        made_from = made_from or self.db.execute("SELECT key IS NOT NULL FROM source WHERE dataset = ? LIMIT 1", (dataset,)).fetchone()
        if made_from is not None:
            for one in defs.values():
                one.given = not one.final and not one.parents
                one.listed = one.given and bool(made_from[0])
        return Graph(dataset, defs, [d for d in defs.values() if not d.final], [d for d in defs.values() if d.final])

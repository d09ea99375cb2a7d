"""A steering file takes the place of a dataset's: which tasks are described otherwise, job by job, and are done again (hides how that is compared)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from icp.config import Site
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.engine.provenance import recorded_steering
from icp.engine.submission import Submission
from icp.errors import BadInput, Failed, Refused
from icp.ledger import change, provenance, replacing
from icp.ledger.control import Control
from icp.ledger.datasets import job_row, read_dataset
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.views_jobs import spans
from icp.model.definition import Steering, TaskDef

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Redo", "Replacement"]

ROUNDS = 20


@dataclass(slots=True)
class Redo:
    """What is done again. ``changed``: task definition -> ranges of jobs in which it is described otherwise; ``following``: what follows from that."""

    changed: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    following: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    inputs: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """What these read and is gone, so that it is made again."""
    names: dict[int, str] = field(default_factory=dict)
    again: int = 0
    """Tasks that are ok and are done again."""
    kept: int = 0
    """Tasks that are ok and stay."""
    more: int = 0
    """New jobs."""
    files: bool = False
    """Whether what is shipped is another."""


class Replacement:
    """One dataset, and what shall describe it. BadInput where its rows could not be kept under the new description."""

    def __init__(self, ledger: Ledger, dataset: int, submission: Submission, sites: Iterable[Site], now: float, *, ignore_files: bool = False) -> None:
        self.ledger, self.dataset, self.sites, self.now, self.ignore_files = ledger, dataset, list(sites), now, ignore_files
        self.definitions = Definitions(ledger.db)
        self.control = Control(ledger, self.definitions, dataset, now)
        self.row = read_dataset(ledger.db, dataset)
        self.old: Steering = recorded_steering(provenance.revision(ledger.db, dataset))
        # jobs are told the name that it was submitted with, so that only what is described otherwise differs
        self.new: Steering = replace(submission.steering, name=self.old.name)
        self.submission = submission
        self._check()

    def _check(self) -> None:
        name = self.control.name
        if self.control.state.name == "CANCELLED":
            raise Refused(f"dataset {name} is cancelled", "submit the file under another name: `icp submit --name OTHER ...`")
        wrong = replacing.same_shape(self.old, self.new)
        if wrong:
            raise BadInput(f"dataset {name} cannot be replaced by this file: its tasks, inputs and outputs must be the same",
                           "submit it under another name: `icp submit --name OTHER ...`", tuple(wrong))  # fmt: skip
        if self.new.jobs.count < self.row.jobs:
            fewer = f"--job {self.new.jobs.count}-{self.row.jobs - 1}"
            said = f"dataset {name} has {self.row.jobs} jobs, and this file describes {self.new.jobs.count}"
            raise BadInput(said, f"`icp cancel {name} {fewer}` ends the rest")
        if self.new.seed not in (None, self.row.seed):
            said = f"dataset {name} has the seed {self.row.seed}, and the file says {self.new.seed}"
            raise BadInput(said, "leave the seed, or submit the file under another name")
        if self.old.jobs.source or self.new.jobs.source:
            one = self.old.jobs.source or self.new.jobs.source
            said = f"the jobs of dataset {name} are made from another dataset's outputs ({one}), so that what they would be is not in the file"
            raise BadInput(said, "submit the file under another name: `icp submit --name OTHER ...`")
        change.check_growth(self.control, self.new.jobs.count)

    # -- what is done again -------------------------------------------------------------------------------------

    def compare(self) -> Redo:
        """Render old and new of every job that is there, where they can differ at all."""
        redo = Redo(more=self.new.jobs.count - self.row.jobs)
        redo.files = self.row.pack != (self.submission.pack[0] if self.submission.pack else None)
        graph = self.control.graph
        redo.names = {one.id: one.name for one in graph.defs.values()}
        whole = (0, self.row.jobs - 1)
        for one in graph.defs.values():
            old, new = self.old.task(one.name), self.new.task(one.name)
            if redo.files and not self.ignore_files:
                redo.changed[one.id] = [(-(10**9), -1) if one.final else whole]
            elif not self._same(old, new):
                found = self._groups(old, new, one.id) if one.final else self._jobs(old, new)
                if found:
                    redo.changed[one.id] = found
        for task_def, ranges in redo.changed.items():
            for follows in graph.descendants(task_def):
                redo.following.setdefault(follows, []).extend(ranges)
        for final in graph.finals:
            if final.id not in redo.changed and any(parent in redo.changed or parent in redo.following for parent in final.parents):
                redo.following[final.id] = [(-(10**9), -1)]
        redo.following = {one: _merged(ranges + redo.changed.get(one, [])) for one, ranges in redo.following.items()}
        with self.ledger.read() as db:
            self._inputs(db, redo)
            redo.again = replacing.count_ok(db, self.dataset, _together(redo.changed, redo.following, redo.inputs))
            every = {one.id: [(-(10**9), self.row.jobs)] for one in graph.defs.values()}
            redo.kept = replacing.count_ok(db, self.dataset, every) - redo.again
        return redo

    def _inputs(self, db: sqlite3.Connection, redo: Redo) -> None:
        """From the last task to the first: what is done again needs its inputs."""
        for one in reversed([*self.control.graph.tasks, *self.control.graph.finals]):
            ranges = _together(redo.changed, redo.following, redo.inputs).get(one.id)
            if not ranges:
                continue
            for read in one.inputs:
                jobs = replacing.gone(db, self.dataset, read.parent, read.output, [(0, self.row.jobs)] if one.final else ranges)
                if jobs:
                    redo.inputs[read.parent] = _merged([*redo.inputs.get(read.parent, []), *((job, job) for job in jobs)])

    def _same(self, old: TaskDef, new: TaskDef) -> bool:
        """Whether nothing that this task is rendered from differs; how much it asks for, and how often, changes no result."""
        plain = replace(new, resources=old.resources, requirements=old.requirements, max_tries=old.max_tries)
        if plain != old or self.old.variables != self.new.variables or self.old.software != self.new.software:
            return False
        if self.new.jobs.count != self.row.jobs and "args(jobs)" in self.old.text:
            return False
        if self.old.jobs.kind == "rows":
            return False  # its rows are compared one by one
        return replace(self.old.jobs, count=0) == replace(self.new.jobs, count=0)

    def _jobs(self, old: TaskDef, new: TaskDef) -> list[tuple[int, int]]:
        pair = Renderer(self.old, old), Renderer(self.new, new)
        found: list[tuple[int, int]] = []
        for low, high, word in spans(self.ledger.db, self.dataset, 0, self.row.jobs - 1):
            for job in range(low, high + 1) if word == "rows" else ():
                before, after = self._context(self.old, job, self.row.jobs), self._context(self.new, job, self.new.jobs.count)
                if self._differs(pair, before, after):
                    found.append((job, job))
        return _merged(found)

    def _groups(self, old: TaskDef, new: TaskDef, task_def: int) -> list[tuple[int, int]]:
        pair = Renderer(self.old, old), Renderer(self.new, new)
        seed, name = self.row.seed, self.old.name
        for group, key in replacing.groups(self.ledger.db, self.dataset, task_def):
            before = JobContext(name, seed, -1 - group, self.row.jobs, {}, key)
            if self._differs(pair, before, JobContext(name, seed, -1 - group, self.new.jobs.count, {}, key)):
                return [(-(10**9), -1)]
        return []

    def _context(self, steering: Steering, job: int, jobs: int) -> JobContext:
        row: dict[str, Any]
        if steering is self.old and steering.jobs.kind == "rows":
            row = dict(zip(steering.jobs.columns, job_row(self.ledger.db, self.dataset, job), strict=True))
        else:
            row = dict(steering.jobs.row(job))
        return JobContext(steering.name, self.row.seed, job, jobs, row)

    def _differs(self, pair: tuple[Renderer, Renderer], before: JobContext, after: JobContext) -> bool:
        for site in [*self.sites, None]:
            context = SiteContext("?", {"CPU": True}, {}) if site is None else SiteContext(site.name, {"CPU": True, **site.attributes}, site.system)
            try:
                first = pair[0].render(before, context)
            except BadInput:
                continue  # not for this site
            return first != pair[1].render(after, context)
        return True

    @property
    def nothing(self) -> bool:
        """Whether the file is what describes the dataset already."""
        pack = self.submission.pack[0] if self.submission.pack else None
        same = self.row.steering == self.new.text and self.row.pack == pack and self.row.reason != replacing.REASON
        return same and self.new.jobs.count == self.row.jobs and self.new.jobs.kind != "rows"

    # -- doing it -----------------------------------------------------------------------------------------------

    def carry_out(self, redo: Redo) -> tuple[int, bool]:
        """Take back what is described otherwise, then put the new description in place: (revision, whether the dataset goes on)."""
        with self.ledger.write():
            before = replacing.begin(self.control)
        for _ in range(ROUNDS):
            for task_def, ranges in redo.changed.items():
                for first, last in ranges:
                    self.control.replace_jobs(first, last, task_def)
            with self.ledger.write() as db:
                if not replacing.left_over(db, self.dataset, redo.changed):
                    revision = replacing.switch(self.control, self.new, str(self.submission.directory), self.submission.pack)
                    break
        else:
            raise Failed(f"dataset {self.control.name} is still sent to sites, though it is suspended", "end the engine, then the same again")
        self.definitions.forget()
        replacing.renew_needs(self.ledger, self.definitions, self.dataset, self.now)
        with self.ledger.write():
            goes_on = replacing.finish(self.control, before)
        return revision, goes_on


def _together(*parts: dict[int, list[tuple[int, int]]]) -> dict[int, list[tuple[int, int]]]:
    found: dict[int, list[tuple[int, int]]] = {}
    for part in parts:
        for one, ranges in part.items():
            found[one] = _merged([*found.get(one, []), *ranges])
    return found


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged

"""Jobs that are made from the outputs of another dataset: when a file is submitted, and as they come (hides whose job `group_by` asks)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from icp.dsl.disk import Found, Outputs
from icp.dsl.expressions import Compiler
from icp.dsl.grouping import GroupBy
from icp.dsl.syntax import BadExpression
from icp.engine.rendering import Rendering
from icp.errors import BadInput, IcpError, NotFound
from icp.ledger import chaining, following, upkeep
from icp.ledger.control import Control
from icp.ledger.datasets import read_dataset
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.model.chains import gather
from icp.model.definition import JobSource, Steering, steering_from_json

if TYPE_CHECKING:
    from icp.ledger.following import Came

__all__ = ["Followers", "outputs_of"]

AT_ONCE = 2000
"""Arrivals that one transaction looks at."""


def outputs_of(ledger: Ledger | None) -> Outputs:
    """Finds outputs of other datasets for a steering file."""

    def found(dataset: str, task: str, output: str, follow: bool) -> Found:
        if ledger is None:
            raise NotFound(f"there is no ledger in which dataset {dataset} could be")
        with ledger.read() as db:
            one = chaining.parent(db, dataset, task, output, follow=follow)
            files = [each.output for each in chaining.of_output(db, one)]
            rendering = Rendering(db, Definitions(db))
            steering = rendering.dataset(one.number).steering
            return Found(one.name, files, one.over, _columns(steering.jobs), rendering.dataset(one.number).context)

    return found


def _columns(jobs: JobSource) -> frozenset[str]:
    return frozenset([name for name, _ in jobs.axes] + list(jobs.columns))


class Followers:
    """Gives every output that came to the datasets which follow it, for one engine (or one submission)."""

    def __init__(self, ledger: Ledger, definitions: Definitions, rendering: Rendering) -> None:
        self.ledger, self.db, self.definitions, self.rendering = ledger, ledger.db, definitions, rendering
        self._steerings: dict[int, Steering] = {}

    def tick(self, now: float) -> bool:
        """What came since the last one; whether there is more of it."""
        more = False
        for dataset in following.due(self.db):
            try:
                with self.ledger.write():
                    more |= self.take(dataset, now)
            except IcpError as error:
                with self.ledger.write() as db:
                    upkeep.suspend(db, dataset, error.message)
                    self.ledger.audit(now, "suspended by the engine", dataset, error.message)
        return more

    def take(self, dataset: int, now: float, limit: int = AT_ONCE) -> bool:
        """Make jobs of what came for a dataset, in one transaction of the caller's; whether more is left to look at. IcpError."""
        self.rendering.fresh()
        db = self.db
        control = Control(self.ledger, self.definitions, dataset, now)
        jobs = self._steering(dataset).jobs
        last, files = following.came(db, dataset, limit)
        key_of = self._key_of(dataset, jobs)
        keyed = [(key_of(one.output.job), one) for one in files]
        held = following.hold(db, dataset, keyed if jobs.grouped else [(None, one) for _, one in keyed])
        following.looked_at(db, dataset, last)
        over = following.over(db, dataset)
        size = jobs.group if jobs.grouped else 1
        groups: list[list[Came]] = []
        if size is not None or over:
            new = {one.source for _, one in held}
            keys = None if over else dict.fromkeys(key for key, _ in held)
            before = following.waiting(db, dataset, keys) if jobs.grouped else {}
            waiting = {key: [one for one in members if one.source not in new] for key, members in before.items()}
            groups = [members for _, members in gather(waiting, held, size, over=over)]
        if held:
            control.reopen()
        following.add_jobs(control, [sorted(members, key=lambda one: (one.job, one.part)) for members in groups], keyed=bool(jobs.group_by))
        if over or (not held and control.state.name == "COMPLETE"):
            following.settle(db, dataset)
        self.rendering.datasets.pop(dataset, None)
        return bool(files) and not over

    def _steering(self, dataset: int) -> Steering:
        if dataset not in self._steerings:
            self._steerings[dataset] = steering_from_json(json.loads(read_dataset(self.db, dataset).definition))
        return self._steerings[dataset]

    def _key_of(self, dataset: int, jobs: JobSource) -> Callable[[int], str]:
        """The group of what a job of the other dataset made. BadInput."""
        if not jobs.group_by:
            return lambda job: ""
        number, name, task = following.followed(self.db, dataset)
        parent = self.rendering.dataset(number)
        columns = _columns(parent.steering.jobs)
        known: dict[int, str] = {}
        try:
            rule = GroupBy(jobs.group_by, Compiler(self._steering(dataset).variables, columns), task)
        except BadExpression as error:
            raise BadInput(f"group_by: {error}") from None

        def key(job: int) -> str:
            if job not in known:
                try:
                    known[job] = rule.key(parent.context(job))
                except BadExpression as error:
                    raise BadInput(f"group_by, job {job} of dataset {name}: {error}") from None
            return known[job]

        return key

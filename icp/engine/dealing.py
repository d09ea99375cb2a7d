"""What the planner decided becomes rows and cards: jobs released, tasks dealt, chains of one job on one card (hides the card's bytes)."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from icp.backends.spool_client import order, plain
from icp.dsl.expand import SiteContext
from icp.engine.inputs import Inputs, NotNow
from icp.engine.orders import OUTBOX_BYTES, Direct, Orders
from icp.engine.rendering import DatasetRendering, Rendering
from icp.ledger import avoided, cached, cards, datasets, ranges, release
from icp.ledger.control import Control
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions, TaskDefRow
from icp.ledger.fold import Fold
from icp.ledger.rows import TaskRow
from icp.model.need import Need, join
from icp.model.plan import Deal, Policy, Release, SiteView, Snapshot
from icp.pilot.spool import join_card_name
from icp.planner import fold_attributes, may_fit, site_attributes
from icp.states import Task

__all__ = ["Dealer"]

BEGIN = 60
"""Seconds of a pilot's walltime within which it claims its first cards."""
END = 60
"""Seconds of a batch job behind its last attempt."""
REMADE = 200
"""Waiting tasks that are passed over at the most, because what their jobs are made from is being made again."""


class Dealer:
    """Carries out Release and Deal inside one write transaction."""

    def __init__(
        self, ledger: Ledger, definitions: Definitions, rendering: Rendering, fold: Fold, policy: Policy, now: float, relay: Path, large: float
    ) -> None:
        self.ledger, self.db = ledger, ledger.db
        self.definitions, self.rendering, self.fold, self.policy, self.now = definitions, rendering, fold, policy, now
        self.inputs = Inputs(definitions, rendering, fold, relay, large)

    # -- jobs become rows ---------------------------------------------------------------------------------------

    def release(self, action: Release) -> int:
        """Make rows of up to ``action.jobs`` jobs; how many it were. A job that cannot be rendered suspends its dataset."""
        dataset = self.rendering.dataset(action.dataset)
        grouped = datasets.grouped(self.db, action.dataset)
        jobs = ranges.take(self.db, action.dataset, action.jobs, grouped)
        if jobs:
            self._rows(dataset, jobs)
        return len(jobs)

    def release_one(self, number: int, job: int) -> None:
        """Make rows of one job out of its turn."""
        ranges.mark_rows(self.db, number, job)
        self._rows(self.rendering.dataset(number), [job])

    def _rows(self, dataset: DatasetRendering, jobs: list[int]) -> None:
        contexts = {job: dataset.context(job) for job in jobs}
        ordinary = {one: renderer for one, renderer in dataset.renderers.items() if not self.definitions.task_def(one).final}
        numbers = {job: {one: self.rendering.need_number(r.need(contexts[job])) for one, r in ordinary.items()} for job in jobs}
        release.release_jobs(self.fold, self.definitions.graph(dataset.number), jobs, lambda task_def, job: numbers[job][task_def])

    def groups(self, dataset_id: int, n: int) -> None:
        """Count up to ``n`` more jobs into the groups of final tasks."""
        dataset = self.rendering.dataset(dataset_id)
        graph = self.definitions.graph(dataset_id)
        finals = [one for one in graph.finals if one.final == 2]
        first = datasets.grouped(self.db, dataset_id)
        last = min(dataset.jobs, first + n)

        def keys() -> Any:
            for job in range(first, last):
                context = dataset.context(job)
                yield job, {one.id: dataset.renderers[one.id].group(context) for one in finals}

        grown = release.add_groups(self.db, graph, list(keys()))
        if grown:
            Control(self.ledger, self.definitions, dataset_id, self.now).groups_grew(first, last - 1, grown)

    def finals(self) -> int:
        """Final tasks whose time has come become rows."""
        ready = release.ready_finals(self.db, 200)
        return release.release_finals(self.fold, ready, self._final_need)

    def _final_need(self, task_def: int, job: int, key: str) -> int:
        return self.rendering.need_number(self.rendering.need(task_def, job, group=key))

    def renew_needs(self, dataset: int, task_def: int) -> None:
        """Tasks that failed ask for something else: their need is rendered anew, with their tier and with the hosts that they shall avoid."""
        tasks = cards.without_need(self.db, dataset, task_def)
        self.fold.load_tasks(tasks)
        for number in tasks:
            task = self.fold.tasks[number]
            key = self._group_key(task) if task.job < 0 else None
            need = self.rendering.need(task.task_def, task.job, task.tier, key)
            task.need = self.rendering.need_number(replace(need, avoid=avoided.hosts(self.db, task.id, task.mark, self.now, self.policy)))
            self.fold.dirty_tasks[task.id] = task

    def _group_key(self, task: TaskRow) -> str:
        return datasets.group_key(self.db, task.dataset, task.task_def, -1 - task.job)

    # -- tasks go into cards ------------------------------------------------------------------------------------

    def deal(self, action: Deal, site: SiteView, context: SiteContext, orders: Orders, snapshot: Snapshot) -> int:
        """Put up to ``action.n`` waiting tasks into cards; how many attempts that made."""
        if orders.size > OUTBOX_BYTES:
            return 0
        reader = self.definitions.task_def(action.task_def)
        reads = bool(reader.inputs) or reader.given
        # those whose inputs travel are passed over: they must not hold up what could run
        more = self.inputs.on_the_way() + len(cached.sending(self.db, site.id)) if reads and len(snapshot.sites) > 1 else 0
        more += REMADE if reader.given else 0
        tasks = cards.waiting_tasks(self.fold, action.dataset, action.task_def, action.need, action.zone, self.now, action.n + more)
        chains: dict[tuple[str, int], list[list[TaskRow]]] = defaultdict(list)
        taken: set[int] = set()
        awaited = dealt = 0
        silent = {one.id for one in snapshot.sites if not one.reachable}
        for task in tasks:
            if dealt >= action.n:
                break
            if task.id in taken or task.state != Task.WAITING:
                continue
            if reads:
                ready, travels = self.inputs.look(task, site, orders, silent, ask=awaited < action.n)
                awaited += travels
                if not ready:
                    continue
            dealt += 1
            chain = self._chain(task, site, snapshot)
            taken |= {one.id for one in chain}
            chains[join([self._need(one, snapshot) for one in chain]).id, task.priority].append(chain)
        made, before = 0, len(orders.direct)
        for (_, priority), members in chains.items():
            need = join([self._need(one, snapshot) for one in members[0]])
            folded = _folded(need, site, anywhere=action.anywhere)
            per_card = action.per_card
            if len(members[0]) > 1:
                each = sum(snapshot.defs[one.task_def].seconds or 0 for one in members[0])
                per_card = max(1, min(per_card, int(self._card_seconds(site) / max(each, 0.001))))
            for start in range(0, len(members), per_card):
                if orders.size > OUTBOX_BYTES or (action.cards is not None and len(orders.direct) - before >= action.cards):
                    break
                made += self._card(members[start : start + per_card], folded, priority, site, context, orders, snapshot)
        return made

    def _card_seconds(self, site: SiteView) -> float:
        return self.policy.direct_seconds if site.spec.direct else self.policy.card_seconds

    def _need(self, task: TaskRow, snapshot: Snapshot) -> Need:
        need = snapshot.needs.get(task.need)
        return need if need is not None else self.rendering.need(task.task_def, task.job, task.tier)

    def _chain(self, first: TaskRow, site: SiteView, snapshot: Snapshot) -> list[TaskRow]:
        """The task, and what of its job can run behind it on the same card: short, known, and nothing else to wait for."""
        known = snapshot.defs[first.task_def].seconds
        limited = any(one.id == first.dataset and one.max_running is not None for one in snapshot.datasets)
        if first.job < 0 or known is None or limited:
            return [first]
        graph = self.definitions.graph(first.dataset)
        job = self.fold.by_job.get((first.dataset, first.job), {})
        chain = {first.task_def: first}
        total = known
        for one in graph.tasks:
            task = job.get(one.id)
            seconds = snapshot.defs[one.id].seconds
            if task is None or one.id in chain or seconds is None or not task.need or total + seconds > self._card_seconds(site):
                continue
            if task.state not in (Task.IDLE, Task.WAITING) or (task.not_before or 0) > self.now:
                continue
            ready = all(parent in chain or (parent in job and job[parent].accepted is not None) for parent in one.parents)
            named = all(one_in.parent not in chain or not _pattern(graph.defs[one_in.parent], one_in.output) for one_in in one.inputs)
            if not (ready and named):
                continue
            together = join([self._need(other, snapshot) for other in (*chain.values(), task)])
            # a pilot claims nothing that may not end before it does
            ends = site.spec.walltime is None or together.time + BEGIN <= site.spec.walltime
            if ends and may_fit(self._need(task, snapshot), site) and may_fit(together, site):
                chain[one.id] = task
                total += seconds
        return sorted(chain.values(), key=lambda row: graph.defs[row.task_def].idx)

    def _card(
        self, chains: list[list[TaskRow]], need: Need, priority: int, site: SiteView, context: SiteContext, orders: Orders, snapshot: Snapshot
    ) -> int:
        rendered: list[tuple[TaskRow, bytes, bytes, dict[str, Any]]] = []
        for chain in chains:
            part: list[tuple[TaskRow, bytes, bytes, dict[str, Any]]] = []
            keys: dict[int, str] = {}
            try:
                for task in chain:
                    key, passkey = os.urandom(8), os.urandom(8)
                    part.append((task, key, passkey, self._attempt(task, key.hex(), passkey.hex(), keys, site, context, orders)))
                    keys[task.task_def] = key.hex()
            except NotNow:
                pass  # what comes before it in the chain can run
            rendered += part
        if not rendered:
            return 0
        dataset = rendered[0][0].dataset
        base = datasets.priority(self.db, dataset)
        card = os.urandom(8)
        number = cards.make_card(self.db, card, site.id, self.rendering.need_number(need), base + priority, self.now)
        made = cards.make_attempts(self.fold, number, site.id, [(task, key, passkey) for task, key, passkey, _ in rendered])
        for row, (_, _, _, body) in zip(made, rendered, strict=True):
            body["try"] = row.try_
        if need.id not in orders.needs:
            orders.needs[need.id] = order("need", {"id": need.id}, need.bytes)
        text = plain({"card": card.hex(), "format": 1, "need": need.id, "attempts": [body for *_, body in rendered]})
        name = join_card_name(base + priority, need.id, card.hex())
        orders.cards.append(order("card", {"name": name}, text + b"\n"))
        if site.spec.direct:
            medians = [snapshot.defs[task.task_def].seconds or 0.0 for task, *_ in rendered]
            orders.direct.append(Direct(number, name, need, self._batch_seconds(need, medians, site)))
        orders.size += len(orders.cards[-1])
        return len(rendered)

    def _batch_seconds(self, need: Need, medians: list[float], site: SiteView) -> int:
        """The walltime of a card's own batch job: what comes before the last may take twice as long as it usually does, and the last all it may."""
        wanted = need.time + BEGIN + END + (int(2 * sum(medians)) if len(medians) > 1 else 0)
        return wanted if site.spec.walltime is None else min(wanted, site.spec.walltime)

    def _attempt(
        self, task: TaskRow, key: str, passkey: str, chain: dict[int, str], site: SiteView, context: SiteContext, orders: Orders
    ) -> dict[str, Any]:
        """One attempt as a card holds it; ``chain``: attempts of the same card by task definition."""
        dataset = self.rendering.dataset(task.dataset)
        definition = self.definitions.task_def(task.task_def)
        renderer = dataset.renderers[task.task_def]
        job = dataset.context(task.job, self._group_key(task) if task.job < 0 else None)
        need = self.rendering.need(task.task_def, task.job, task.tier, job.group)
        rendered = renderer.render(job, context)
        body: dict[str, Any] = {
            "a": key, "k": passkey, "dataset": dataset.uuid, "job": task.job, "task": definition.name, "try": 1,
            "after": [chain[parent] for parent in definition.parents if parent in chain],
            "cpus": need.cpus, "memory": need.memory, "disk": need.disk, "gpus": need.gpus, "time": need.time,
            "files": [], "in": self.inputs.of_card(task, chain, site, orders) + rendered.fetch, "steps": rendered.steps, "out": rendered.out,
            **rendered.environments,
        }  # fmt: skip
        if definition.final or definition.listed:
            body["list"] = True
        self.inputs.tarballs(dataset.number, rendered.software, site, orders)
        if dataset.pack is not None:
            body["files"] = [dataset.pack.hex()]
            self.inputs.pack(dataset.number, dataset.pack, site, orders)
        return body

def _folded(need: Need, site: SiteView, *, anywhere: bool) -> Need:
    """A need as agents of this site compare it; ``anywhere``: also on hosts that it avoids."""
    attributes = site_attributes(site)
    clauses = fold_attributes(need.any, attributes)
    # a batch job of its own runs where the batch system puts it
    if not anywhere and not site.spec.direct and "Host" not in attributes:
        away = tuple(("Host", "!=", host) for host in need.avoid)
        clauses = tuple(clause + away for clause in clauses)
    return replace(need, any=clauses, avoid=())


def _pattern(definition: TaskDefRow, output: int) -> bool:
    """Whether the names of an output are known only once it is there."""
    row = definition.outputs[output]
    return row.glob or row.optional

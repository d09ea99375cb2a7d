"""What the planner decided becomes rows and cards: jobs released, tasks dealt, chains of one job on one card (hides the card's bytes)."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from icp.backends.spool_client import order, plain
from icp.dsl.expand import SiteContext
from icp.engine.rendering import DatasetRendering, Rendering
from icp.errors import IcpError
from icp.ledger import cards, datasets, ranges, release
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions, TaskDefRow
from icp.ledger.files import job_folder
from icp.ledger.fold import Fold
from icp.ledger.rows import TaskRow
from icp.model.need import Need, join
from icp.model.plan import Deal, Policy, Release, SiteView, Snapshot
from icp.pilot.spool import join_card_name
from icp.planner import fold_attributes, may_fit, site_attributes
from icp.states import File, Task

__all__ = ["Dealer", "Orders"]

OUTBOX_BYTES = 6_000_000
"""Cards beyond this wait for the next tick."""


@dataclass
class Orders:
    """Frames for one site, in the order in which the site applies them."""

    needs: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    cards: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    size: int = 0

    def frames(self) -> list[bytes]:
        return [*self.needs.values(), *self.blobs.values(), *self.cards, *self.others]


class _NotNow(Exception):
    """A task that cannot be dealt in this tick."""


class Dealer:
    """Carries out Release and Deal inside one write transaction."""

    def __init__(self, ledger: Ledger, definitions: Definitions, rendering: Rendering, fold: Fold, policy: Policy, now: float) -> None:
        self.ledger, self.db = ledger, ledger.db
        self.definitions, self.rendering, self.fold, self.policy, self.now = definitions, rendering, fold, policy, now

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

        release.add_groups(self.db, graph, list(keys()))

    def finals(self) -> int:
        """Final tasks whose time has come become rows."""
        ready = release.ready_finals(self.db, 200)
        return release.release_finals(self.fold, ready, self._final_need)

    def _final_need(self, task_def: int, job: int, key: str) -> int:
        return self.rendering.need_number(self.rendering.need(task_def, job, group=key))

    def renew_needs(self, dataset: int, task_def: int) -> None:
        """Tasks that failed for want of a resource ask for more: their need is rendered anew with their tier."""
        tasks = cards.without_need(self.db, dataset, task_def)
        self.fold.load_tasks(tasks)
        for number in tasks:
            task = self.fold.tasks[number]
            key = self._group_key(task) if task.job < 0 else None
            task.need = self.rendering.need_number(self.rendering.need(task.task_def, task.job, task.tier, key))
            self.fold.dirty_tasks[task.id] = task

    def _group_key(self, task: TaskRow) -> str:
        return datasets.group_key(self.db, task.dataset, task.task_def, -1 - task.job)

    # -- tasks go into cards ------------------------------------------------------------------------------------

    def deal(self, action: Deal, site: SiteView, context: SiteContext, orders: Orders, snapshot: Snapshot) -> int:
        """Put up to ``action.n`` waiting tasks into cards; how many attempts that made."""
        if orders.size > OUTBOX_BYTES:
            return 0
        tasks = cards.waiting_tasks(self.fold, action.dataset, action.task_def, action.need, action.zone, self.now, action.n)
        chains: dict[tuple[str, int], list[list[TaskRow]]] = defaultdict(list)
        taken: set[int] = set()
        for task in tasks:
            if task.id in taken or task.state != Task.WAITING:
                continue
            chain = self._chain(task, site, snapshot)
            taken |= {one.id for one in chain}
            chains[join([self._need(one, snapshot) for one in chain]).id, task.priority].append(chain)
        made = 0
        for (_, priority), members in chains.items():
            need = join([self._need(one, snapshot) for one in members[0]])
            folded = replace(need, any=fold_attributes(need.any, site_attributes(site)))
            per_card = action.per_card
            if len(members[0]) > 1:
                each = sum(snapshot.defs[one.task_def].seconds or 0 for one in members[0])
                per_card = max(1, min(per_card, int(self.policy.card_seconds / max(each, 0.001))))
            for start in range(0, len(members), per_card):
                if orders.size > OUTBOX_BYTES:
                    break
                made += self._card(members[start : start + per_card], folded, priority, site, context, orders)
        return made

    def _need(self, task: TaskRow, snapshot: Snapshot) -> Need:
        need = snapshot.needs.get(task.need)
        return need if need is not None else self.rendering.need(task.task_def, task.job, task.tier)

    def _chain(self, first: TaskRow, site: SiteView, snapshot: Snapshot) -> list[TaskRow]:
        """The task, and what of its job can run behind it on the same card: short, known, and nothing else to wait for."""
        known = snapshot.defs[first.task_def].seconds
        if first.job < 0 or known is None:
            return [first]
        graph = self.definitions.graph(first.dataset)
        job = self.fold.by_job.get((first.dataset, first.job), {})
        chain = {first.task_def: first}
        total = known
        for one in graph.tasks:
            task = job.get(one.id)
            seconds = snapshot.defs[one.id].seconds
            if task is None or one.id in chain or seconds is None or not task.need or total + seconds > self.policy.card_seconds:
                continue
            if task.state not in (Task.IDLE, Task.WAITING) or (task.not_before or 0) > self.now:
                continue
            ready = all(parent in chain or (parent in job and job[parent].accepted is not None) for parent in one.parents)
            named = all(one_in.parent not in chain or not _pattern(graph.defs[one_in.parent], one_in.output) for one_in in one.inputs)
            if not (ready and named):
                continue
            together = join([self._need(other, snapshot) for other in (*chain.values(), task)])
            if may_fit(self._need(task, snapshot), site) and may_fit(together, site):
                chain[one.id] = task
                total += seconds
        return sorted(chain.values(), key=lambda row: graph.defs[row.task_def].idx)

    def _card(self, chains: list[list[TaskRow]], need: Need, priority: int, site: SiteView, context: SiteContext, orders: Orders) -> int:
        rendered: list[tuple[TaskRow, bytes, bytes, dict[str, Any]]] = []
        for chain in chains:
            part: list[tuple[TaskRow, bytes, bytes, dict[str, Any]]] = []
            keys: dict[int, str] = {}
            try:
                for task in chain:
                    key, passkey = os.urandom(8), os.urandom(8)
                    part.append((task, key, passkey, self._attempt(task, key.hex(), passkey.hex(), keys, site, context, orders)))
                    keys[task.task_def] = key.hex()
            except _NotNow:
                continue
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
        orders.cards.append(order("card", {"name": join_card_name(base + priority, need.id, card.hex())}, text + b"\n"))
        orders.size += len(orders.cards[-1])
        return len(rendered)

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
            "files": [], "in": self._inputs(dataset, definition, task, chain, site, orders), "steps": rendered.steps, "out": rendered.out,
        }  # fmt: skip
        if definition.final:
            body["list"] = True
        if dataset.pack is not None:
            body["files"] = [dataset.pack.hex()]
            self._blob(dataset.pack, site, orders)
        return body

    def _inputs(
        self, dataset: DatasetRendering, definition: TaskDefRow, task: TaskRow, chain: dict[int, str], site: SiteView, orders: Orders
    ) -> list[dict[str, Any]]:
        inputs: list[dict[str, Any]] = []
        job = self.fold.by_job.get((task.dataset, task.job), {})
        for one in definition.inputs:
            parent = self.definitions.task_def(one.parent)
            if one.parent in chain:
                name = dataset.renderers[one.parent].outputs(dataset.context(task.job))[one.output][0]
                inputs.append({"name": name, "from": ["store", chain[one.parent]], "sha256": None})
            elif definition.final:
                for member, attempt in cards.members(self.db, task.dataset, one.parent, definition.final, definition.id, -1 - task.job):
                    prefix = f"inputs/{parent.name}/{job_folder(member, dataset.jobs)}/"
                    inputs += self._files(dataset, attempt, one.output, member, prefix, site, orders)
            else:
                accepted = job[one.parent].accepted
                assert accepted is not None
                inputs += self._files(dataset, accepted, one.output, task.job, "", site, orders)
        return inputs

    def _files(
        self, dataset: DatasetRendering, attempt: int, output: int, job: int, prefix: str, site: SiteView, orders: Orders
    ) -> list[dict[str, Any]]:
        """Inputs from what an accepted attempt made: from the site's own store, or sent along from home."""
        found: list[dict[str, Any]] = []
        here = cards.replica_at(self.db, attempt, site.id)
        for name, digest, _, state, _ in cards.input_files(self.db, attempt, output):
            if here is not None and state in (File.PRODUCED, File.COLLECTING, File.RELAYING, File.HOME):
                source = ["store", here.hex(), *([name] if prefix else [])]
            elif state == File.HOME:
                folder = Path(dataset.outputs) / job_folder(job, dataset.jobs) / name
                self._blob(digest, site, orders, folder)
                source = ["cache", digest.hex()]
            else:
                raise _NotNow
            found.append({"name": prefix + name, "from": source, "sha256": digest.hex()})
        return found

    def _blob(self, digest: bytes, site: SiteView, orders: Orders, path: Path | None = None) -> None:
        """Send bytes along unless the site has them."""
        if digest in orders.blobs or cards.has_blob(self.db, site.id, digest):
            return
        if path is None:
            data = cards.blob(self.db, digest)
        else:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise IcpError(f"{path} cannot be read: {error.strerror}", "put it back, or `icp reset` its job") from None
        orders.blobs[digest] = order("blob", {"sha256": digest.hex()}, data)
        orders.size += len(data)
        cards.blob_sent(self.db, site.id, digest)


def _pattern(definition: TaskDefRow, output: int) -> bool:
    """Whether the names of an output are known only once it is there."""
    row = definition.outputs[output]
    return row.glob or row.optional

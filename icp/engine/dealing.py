"""What the planner decided becomes rows and cards: jobs released, tasks dealt, chains of one job on one card (hides the card's bytes)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from icp.backends.spool_client import order, plain
from icp.dsl.expand import SiteContext
from icp.engine.rendering import DatasetRendering, Rendering
from icp.errors import IcpError
from icp.ledger import avoided, cached, cards, datasets, files, ranges, release, sites
from icp.ledger.chaining import Remade, given
from icp.ledger.control import Control
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions, TaskDefRow
from icp.ledger.files import job_folder
from icp.ledger.fold import Fold
from icp.ledger.rows import TaskRow
from icp.model.need import Need, join
from icp.model.plan import Deal, Policy, Release, SiteView, Snapshot
from icp.pilot import platforms
from icp.pilot.spool import join_card_name
from icp.planner import fold_attributes, may_fit, site_attributes
from icp.states import File, Task

__all__ = ["Dealer", "Direct", "Orders"]

OUTBOX_BYTES = 6_000_000
"""Cards beyond this wait for the next tick."""
BEGIN = 60
"""Seconds of a pilot's walltime within which it claims its first cards."""
END = 60
"""Seconds of a batch job behind its last attempt."""
REMADE = 200
"""Waiting tasks that are passed over at the most, because what their jobs are made from is being made again."""
TRAVELLING = 20_000
"""Waiting tasks that are passed over at the most, because their inputs travel."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A card that gets a batch job of its own."""

    card: int
    name: str
    """Its file's name in the inbox."""
    need: Need
    seconds: int
    """What the batch job asks for: long enough for the last attempt to reach its limit."""


@dataclass
class Orders:
    """Frames for one site, in the order in which the site applies them."""

    needs: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    cards: list[bytes] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    drops: set[bytes] = field(default_factory=set)
    """What goes from the site's cache: nothing that the same orders bring or use, so that applying them twice is applying them once."""
    asked: set[int] = field(default_factory=set)
    """Sites from which something shall come home, to be sent on to this one."""
    direct: list[Direct] = field(default_factory=list)
    """Cards among these that need a batch job each."""
    size: int = 0

    def frames(self) -> list[bytes]:
        return [*self.needs.values(), *self.blobs.values(), *self.cards, *self.others, *(order("drop", {"sha256": one.hex()}) for one in sorted(self.drops))]


class _NotNow(Exception):
    """A task that cannot be dealt in this tick."""


@dataclass(frozen=True, slots=True)
class _Input:
    """One input as a card names it; ``path``: where its bytes are at home, if they are sent along."""

    name: str
    source: list[str]
    digest: bytes | None = None
    path: Path | None = None
    size: int = 0
    relayed: int | None = None
    """file.id, where it lies in the relay cache."""


class Dealer:
    """Carries out Release and Deal inside one write transaction."""

    def __init__(
        self, ledger: Ledger, definitions: Definitions, rendering: Rendering, fold: Fold, policy: Policy, now: float, relay: Path, large: float
    ) -> None:
        self.relay, self.large = relay, large
        self._travelling: int | None = None
        self._platforms: dict[int, list[str]] = {}
        """Of sites, looked up once."""
        self._ready: dict[int, list[_Input]] = {}
        """Inputs of tasks that were looked at: all are at the site, or go there with the same orders."""
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
        more = self._on_the_way() + len(cached.sending(self.db, site.id)) if reads and len(snapshot.sites) > 1 else 0
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
                ready, travels = self._look(task, site, orders, silent, ask=awaited < action.n)
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
            except _NotNow:
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
            "files": [], "in": self._inputs(task, chain, site, orders) + rendered.fetch, "steps": rendered.steps, "out": rendered.out,
            **rendered.environments,
        }  # fmt: skip
        if definition.final or definition.listed:
            body["list"] = True
        self._tarballs(dataset.number, rendered.software, site, orders)
        if dataset.pack is not None:
            body["files"] = [dataset.pack.hex()]
            if not self._blob(-dataset.number, dataset.pack, site.id, orders):
                raise _NotNow
        return body

    def _tarballs(self, dataset: int, software: Mapping[str, Any], site: SiteView, orders: Orders) -> None:
        """Send along the tarballs that some node there can use; _NotNow while they travel."""
        if software and site.id not in self._platforms:
            self._platforms[site.id] = sites.platforms(self.db, site.id)
        there = self._platforms.get(site.id, [])
        for name, about in software.items():
            offered = dict(about.get("tarballs") or ())
            fitting = {platforms.best(offered, one) for one in there} if there else set(offered)
            for sha256 in sorted({offered[one] for one in fitting if one is not None}):
                if not self.ship(-dataset, bytes.fromhex(sha256), self.relay.parent / "software" / sha256, site.id, orders, f"software {name}"):
                    raise _NotNow

    def ship(self, reader: int, digest: bytes, path: Path, site: int, orders: Orders, what: str) -> bool:
        """Whether a site has what lies in ``path``, or gets it with these orders; ``reader``: -dataset.id, or 0 for the site itself."""
        try:
            size = path.stat().st_size
        except OSError:
            raise IcpError(f"{what}: {path}, which is to be shipped, is not there any more", "submit the dataset again: it is fetched anew") from None
        return self._blob(reader, digest, site, orders, _Input("", [], digest, path, size))

    def _look(self, task: TaskRow, site: SiteView, orders: Orders, silent: set[int], *, ask: bool) -> tuple[bool, bool]:
        """Whether a waiting task's inputs are at the site, or go there with these orders; if not, whether it waits for some that are on their way.

        ``ask``: what is at another site only shall come home; ``silent``: sites that do not answer.
        """
        try:
            inputs, absent = self._sources(task, {}, site)
        except Remade:
            return False, False
        if absent:
            origins = {self._origin(file) for file in absent}
            answering = not origins & silent
            if ask and answering and files.want_away(self.db, absent):
                orders.asked |= origins
            return False, answering
        if not self._send(task, inputs, site, orders):
            return False, True
        self._ready[task.id] = inputs
        return True, False

    def _on_the_way(self) -> int:
        if self._travelling is None:
            self._travelling = files.travelling(self.db, TRAVELLING)
        return self._travelling

    def _origin(self, file: int) -> int:
        return int(self.db.execute("SELECT a.site FROM file f JOIN attempt a ON a.id = f.attempt WHERE f.id = ?", (file,)).fetchone()[0])

    def _inputs(self, task: TaskRow, chain: dict[int, str], site: SiteView, orders: Orders) -> list[dict[str, Any]]:
        """A task's inputs as its card names them."""
        inputs = self._ready.pop(task.id, None)
        if inputs is None:
            try:
                inputs, absent = self._sources(task, chain, site)
            except Remade:
                raise _NotNow from None
            if absent or not self._send(task, inputs, site, orders):
                raise _NotNow
        return [{"name": one.name, "from": one.source, "sha256": None if one.digest is None else one.digest.hex()} for one in inputs]

    def _sources(self, task: TaskRow, chain: dict[int, str], site: SiteView) -> tuple[list[_Input], list[int]]:
        """Where each input comes from; and the files that are neither at this site nor at home."""
        dataset = self.rendering.dataset(task.dataset)
        definition = self.definitions.task_def(task.task_def)
        job = self.fold.by_job.get((task.dataset, task.job), {})
        inputs: list[_Input] = []
        absent: list[int] = []
        for one in definition.inputs:
            parent = self.definitions.task_def(one.parent)
            if one.parent in chain:
                name = dataset.renderers[one.parent].outputs(dataset.context(task.job))[one.output][0]
                inputs.append(_Input(name, ["store", chain[one.parent]]))
            elif definition.final:
                for member, attempt in cards.members(self.db, task.dataset, one.parent, definition.final, definition.id, -1 - task.job):
                    folder = job_folder(member, dataset.jobs)
                    self._outputs(dataset, attempt, one.output, folder, f"inputs/{parent.name}/{folder}/", site, inputs, absent)
            else:
                accepted = job[one.parent].accepted
                assert accepted is not None
                self._outputs(dataset, accepted, one.output, job_folder(task.job, dataset.jobs), "", site, inputs, absent)
        for one_given in given(self.db, task.dataset, task.job) if definition.given else ():
            source = ["cache", one_given.sha256.hex()]
            inputs.append(_Input(one_given.name, source, one_given.sha256, one_given.path, one_given.bytes))
        return inputs, absent

    def _outputs(
        self, dataset: DatasetRendering, attempt: int, output: int, folder: str, prefix: str, site: SiteView, inputs: list[_Input], absent: list[int]
    ) -> None:
        """Add what an accepted attempt made of one output: from the site's own store, or sent along from home."""
        here = cards.replica_at(self.db, attempt, site.id)
        for name, digest, file, state, size, kept in cards.input_files(self.db, attempt, output):
            if here is not None and state in (File.PRODUCED, File.COLLECTING, File.RELAYING, File.HOME):
                inputs.append(_Input(prefix + name, ["store", here.hex(), *([name] if prefix else [])], digest))
            elif state == File.HOME:
                path = Path(dataset.outputs) / folder / name if kept else files.relay_path(self.relay, file, digest)
                inputs.append(_Input(prefix + name, ["cache", digest.hex()], digest, path, size, None if kept else file))
            else:
                absent.append(file)

    def _send(self, task: TaskRow, inputs: list[_Input], site: SiteView, orders: Orders) -> bool:
        """Send along what the site has not; False if not all of it fits into these orders: the rest follows, and the card behind it."""
        there = True
        for one in inputs:
            if one.path is not None and one.digest is not None:
                there &= self._blob(task.id, one.digest, site.id, orders, one)
        return there

    def _blob(self, reader: int, digest: bytes, site: int, orders: Orders, one: _Input | None = None) -> bool:
        """Whether the site has these bytes for this reader (task.id, or -dataset.id for its pack), or gets them with these orders."""
        cached.read_by(self.db, reader, site, digest)
        if digest in orders.drops:
            orders.drops.remove(digest)
            cached.sent(self.db, site, digest)
            return True
        if digest in orders.blobs or cached.here(self.db, site, digest):
            return True
        if orders.size > OUTBOX_BYTES:
            return False
        size = cards.blob_bytes(self.db, digest) if one is None else one.size
        if size > self.large:
            if one is not None and one.relayed is not None and one.path is not None and not one.path.exists():
                files.relay_gone(self.db, one.relayed)
            else:
                cached.send(self.db, site, digest, size, None if one is None else one.path)
            return False
        if one is None or one.path is None:
            data = cards.blob(self.db, digest)
        else:
            try:
                data = one.path.read_bytes()
            except OSError as error:
                if one.relayed is not None:
                    files.relay_gone(self.db, one.relayed)
                    return False
                raise IcpError(f"{one.path} cannot be read: {error.strerror}", "put it back, or `icp reset` its job") from None
        orders.blobs[digest] = order("blob", {"sha256": digest.hex()}, data)
        orders.size += len(data)
        cached.sent(self.db, site, digest)
        return True


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

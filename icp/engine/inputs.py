"""What a card's attempts read: from the site's own store, from its cache, sent along from here, or still on its way (hides relays and shipments)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.backends.spool_client import order
from icp.engine.orders import OUTBOX_BYTES, Orders
from icp.engine.rendering import DatasetRendering, Rendering
from icp.errors import IcpError
from icp.ledger import cached, cards, files, sites
from icp.ledger.chaining import Remade, given
from icp.ledger.definitions import Definitions
from icp.ledger.files import job_folder
from icp.ledger.fold import Fold
from icp.ledger.rows import TaskRow
from icp.model.plan import SiteView
from icp.pilot import platforms
from icp.states import File

__all__ = ["Inputs", "NotNow"]

TRAVELLING = 20_000
"""Waiting tasks that are passed over at the most, because their inputs travel."""


class NotNow(Exception):
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


class Inputs:
    """What is read at sites, and what is sent there for it, inside the write transaction of one tick."""

    def __init__(self, definitions: Definitions, rendering: Rendering, fold: Fold, relay: Path, large: float) -> None:
        self.db, self.definitions, self.rendering, self.fold = fold.db, definitions, rendering, fold
        self.relay, self.large = relay, large
        self._travelling: int | None = None
        self._platforms: dict[int, list[str]] = {}
        """Of sites, looked up once."""
        self._ready: dict[int, list[_Input]] = {}
        """Inputs of tasks that were looked at: all are at the site, or go there with the same orders."""

    def look(self, task: TaskRow, site: SiteView, orders: Orders, silent: set[int], *, ask: bool) -> tuple[bool, bool]:
        """Whether a waiting task's inputs are at the site, or go there with these orders; if not, whether it waits for some that are on their way.

        ``ask``: what is at another site only shall come home; ``silent``: sites that do not answer.
        """
        try:
            inputs, absent = self._sources(task, {}, site)
        except Remade:
            return False, False
        if absent:
            origins = {files.origin(self.db, file) for file in absent}
            answering = not origins & silent
            if ask and answering and files.want_away(self.db, absent):
                orders.asked |= origins
            return False, answering
        if not self._send(task, inputs, site, orders):
            return False, True
        self._ready[task.id] = inputs
        return True, False

    def on_the_way(self) -> int:
        if self._travelling is None:
            self._travelling = files.travelling(self.db, TRAVELLING)
        return self._travelling

    def of_card(self, task: TaskRow, chain: dict[int, str], site: SiteView, orders: Orders) -> list[dict[str, Any]]:
        """A task's inputs as its card names them; NotNow while they travel. ``chain``: attempts of the same card by task definition."""
        inputs = self._ready.pop(task.id, None)
        if inputs is None:
            try:
                inputs, absent = self._sources(task, chain, site)
            except Remade:
                raise NotNow from None
            if absent or not self._send(task, inputs, site, orders):
                raise NotNow
        return [{"name": one.name, "from": one.source, "sha256": None if one.digest is None else one.digest.hex()} for one in inputs]

    def tarballs(self, dataset: int, software: Mapping[str, Any], site: SiteView, orders: Orders) -> None:
        """Send along the tarballs that some node there can use; NotNow while they travel."""
        if software and site.id not in self._platforms:
            self._platforms[site.id] = sites.platforms(self.db, site.id)
        there = self._platforms.get(site.id, [])
        for name, about in software.items():
            offered = dict(about.get("tarballs") or ())
            fitting = {platforms.best(offered, one) for one in there} if there else set(offered)
            for sha256 in sorted({offered[one] for one in fitting if one is not None}):
                if not self.ship(-dataset, bytes.fromhex(sha256), self.relay.parent / "software" / sha256, site.id, orders, f"software {name}"):
                    raise NotNow

    def pack(self, dataset: int, digest: bytes, site: SiteView, orders: Orders) -> None:
        """Send along the files that a dataset was submitted with; NotNow while they travel."""
        if not self._blob(-dataset, digest, site.id, orders):
            raise NotNow

    def ship(self, reader: int, digest: bytes, path: Path, site: int, orders: Orders, what: str) -> bool:
        """Whether a site has what lies in ``path``, or gets it with these orders; ``reader``: -dataset.id, or 0 for the site itself."""
        try:
            size = path.stat().st_size
        except OSError:
            raise IcpError(f"{what}: {path}, which is to be shipped, is not there any more", "submit the dataset again: it is fetched anew") from None
        return self._blob(reader, digest, site, orders, _Input("", [], digest, path, size))

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

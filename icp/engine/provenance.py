"""The story of a file: every attempt behind it with seed, arguments and command, back to the first (hides how an old definition is rendered again)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from icp.config import Site
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.values import seed_of
from icp.errors import IcpError
from icp.ledger import provenance
from icp.ledger.datasets import job_row
from icp.ledger.definitions import Definitions
from icp.ledger.provenance import FileRecord, MadeBy, Read, Revision
from icp.ledger.transferred import TransferView, of_attempts
from icp.model.definition import Steering, steering_from_json

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Story", "StoryTeller", "recorded_steering"]


@dataclass(frozen=True, slots=True)
class Story:
    """An attempt with all that decided what it made. ``commands``: what ran, as it is rendered for its site (None: its site is not configured so now)."""

    made: MadeBy
    seed: int
    arguments: dict[str, Any]
    commands: list[Any] | None
    revision: int
    files: str | None
    """sha256 of the files that were shipped with the dataset."""
    inputs: list[Read]
    outputs: list[FileRecord]
    moved: list[TransferView]
    """What it fetched and stored by URL."""


def recorded_steering(revision: Revision, rows: Iterable[Any] = ()) -> Steering:
    """The definition that a revision holds."""
    return steering_from_json(json.loads(revision.definition), text=revision.steering, rows=list(rows))


class StoryTeller:
    """Tells stories from one consistent view of a ledger."""

    def __init__(self, db: sqlite3.Connection, sites: Mapping[str, Site]) -> None:
        self.db, self.sites, self.definitions = db, sites, Definitions(db)
        self._steerings: dict[tuple[int, int], Steering] = {}
        self._renderers: dict[tuple[int, int, str], Renderer] = {}

    def lineage(self, first: Iterable[int], limit: int | None = None) -> tuple[list[Story], int]:
        """These attempts and all behind them, the nearest first, each once; ``limit`` of them, and how many known ones were left out."""
        todo = deque(dict.fromkeys(first))
        seen = set(todo)
        told: list[Story] = []
        while todo and (limit is None or len(told) < limit):
            one = self.story(todo.popleft())
            told.append(one)
            for read in one.inputs:
                if read.attempt not in seen:
                    seen.add(read.attempt)
                    todo.append(read.attempt)
        return told, len(todo)

    def story(self, attempt: int, *, render: bool = True) -> Story:
        """One attempt; ``render``: with its commands."""
        made = provenance.made_by(self.db, attempt)
        revision = provenance.revision(self.db, made.dataset, attempt)
        steering = self._steering(made.dataset, revision)
        row = self._row(made, steering)
        return Story(
            made, int(row.get("seed", seed_of(made.seed, made.job, made.task))), row, self._commands(made, revision, steering, row) if render else None,
            revision.number, revision.pack, list(provenance.inputs_of(self.db, self.definitions, attempt)), provenance.files_of(self.db, attempt),
            of_attempts(self.db, [attempt])[attempt],
        )  # fmt: skip

    def _steering(self, dataset: int, revision: Revision) -> Steering:
        key = (dataset, revision.number)
        if key not in self._steerings:
            self._steerings[key] = recorded_steering(revision)
        return self._steerings[key]

    def _row(self, made: MadeBy, steering: Steering) -> dict[str, Any]:
        if made.job < 0:
            return {}
        if steering.jobs.kind == "rows":
            return dict(zip(steering.jobs.columns, job_row(self.db, made.dataset, made.job), strict=True))
        return dict(steering.jobs.row(made.job))

    def _commands(self, made: MadeBy, revision: Revision, steering: Steering, row: dict[str, Any]) -> list[Any] | None:
        site = self.sites.get(made.site)
        context = SiteContext(made.site, {"CPU": True, **(site.attributes if site else {})}, site.system if site else {})
        job = JobContext(steering.name, made.seed, made.job, revision.jobs, row, made.group if made.job < 0 else None)
        key = (made.dataset, revision.number, made.task)
        try:
            if key not in self._renderers:
                self._renderers[key] = Renderer(steering, steering.task(made.task))
            return [step["argv"] for step in self._renderers[key].render(job, context).steps]
        except (IcpError, KeyError):
            return None

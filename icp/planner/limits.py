"""What a person allows a dataset: how many tasks at once, and which sites (hides how the rest of the plan never sees more)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from icp.model.plan import ClassView, DatasetView, SiteView, Snapshot
from icp.states import Task

__all__ = ["allowed", "at_sites", "left", "within"]


def at_sites(classes: Iterable[ClassView], dataset: int) -> int:
    """Tasks of a dataset that are in cards at sites: each runs, or may begin any moment."""
    return sum(one.n for one in classes if one.dataset == dataset and one.state in (Task.QUEUED, Task.PROCESSING))


def left(dataset: DatasetView, classes: Iterable[ClassView]) -> int | None:
    """How many more tasks of a dataset may go to sites now; None: there is no limit."""
    return None if dataset.max_running is None else max(0, dataset.max_running - at_sites(classes, dataset.id))


def allowed(dataset: DatasetView | None, site: SiteView) -> bool:
    """Whether a dataset may use a site."""
    return dataset is None or dataset.sites is None or site.name in dataset.sites


def within(snapshot: Snapshot) -> Snapshot:
    """The snapshot with no more waiting and unreleased work than the datasets' limits let go to sites now: what is beyond is not there to be planned.

    What finishes jobs comes before what begins them, as everywhere.
    """
    limited = {one.id: one for one in snapshot.datasets if one.max_running is not None}
    if not limited:
        return snapshot
    busy: Counter[int] = Counter()
    waiting: dict[int, list[ClassView]] = defaultdict(list)
    classes: list[ClassView] = []
    for one in snapshot.classes:
        if one.dataset in limited and one.state == Task.WAITING:
            waiting[one.dataset].append(one)
            continue
        if one.dataset in limited and one.state in (Task.QUEUED, Task.PROCESSING):
            busy[one.dataset] += one.n
        classes.append(one)
    datasets = []
    for dataset in snapshot.datasets:
        if dataset.max_running is None:
            datasets.append(dataset)
            continue
        room = max(0, dataset.max_running - busy[dataset.id])
        for one in sorted(waiting[dataset.id], key=lambda one: (-snapshot.defs[one.task_def].idx, one.task_def, one.need, one.zone)):
            n = min(one.n, room) if one.need else one.n
            if n:
                classes.append(replace(one, n=n))
            room -= n if one.need else 0
        datasets.append(replace(dataset, unreleased=min(dataset.unreleased, room)))
    return replace(snapshot, datasets=tuple(datasets), classes=tuple(classes))

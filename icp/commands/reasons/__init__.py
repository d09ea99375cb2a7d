"""Why things are as they are: what `icp why` says of a dataset, a job, a task, a site or a pilot (hides where the evidence lies)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from icp.commands.arguments import job_number, task_of
from icp.commands.reasons import chains
from icp.commands.reasons.datasets import DatasetTeller
from icp.commands.reasons.jobs import JobTeller
from icp.commands.reasons.sites import of_pilot, of_site
from icp.commands.reasons.teller import Answer
from icp.errors import NotFound
from icp.ledger.definitions import Definitions
from icp.ledger.views import find_dataset, one_dataset

if TYPE_CHECKING:
    from icp.config import Config

__all__ = ["Answer", "why"]


def why(db: Any, config: Config, thing: str, now: float, *, job: str | None = None, task: str | None = None) -> list[Answer]:
    """Answers about a dataset, or a job or a task of it, or else a site, or a pilot; in the caller's transaction. NotFound where there is none."""
    try:
        number = find_dataset(db, thing)
    except NotFound as error:
        answers = of_site(db, config, thing, now) or of_pilot(db, thing, now)
        if answers is None:
            raise NotFound(f"there is no dataset, site or pilot {thing!r}", error.hint) from None
        return answers
    graph, view = Definitions(db).graph(number), one_dataset(db, number)
    definition = task_of(graph, task)
    at = job_number(job, view.jobs, definition)
    if at is None:
        told = DatasetTeller(db, graph, view, config, now).dataset(definition) + chains.follows(db, number)
        return told + chains.sources(db, number, 0, view.jobs - 1)
    return JobTeller(db, graph, view, config, now).job(at, definition) + chains.sources(db, number, at, at)

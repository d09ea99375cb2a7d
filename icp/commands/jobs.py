"""`icp jobs`: the jobs of a dataset, those too that are no rows yet (hides only the printing)."""

from __future__ import annotations

from itertools import chain, islice
from typing import Annotated

import typer

from icp import output
from icp.commands.arguments import (
    ALL,
    AsJson,
    DatasetName,
    Jobs,
    Limit,
    OneTask,
    Quiet,
    SiteName,
    choose,
    chosen_limit,
    job_spans,
    open_here,
    task_of,
    the_dataset,
)
from icp.output import clean, paint

__all__ = ["JOB_COLOURS", "jobs"]

JOB_COLOURS = {"ok": "green", "failed": "red", "processing": "cyan", "queued": "blue", "suspended": "yellow", "cancelled": "dim", "unreleased": "dim"}


def jobs(
    dataset: DatasetName,
    job: Jobs = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", show_default=False,
            help="Only jobs in this state: unreleased, waiting, queued, processing, ok, failed, suspended, cancelled.",
        ),
    ] = None,
    site: SiteName = None,
    task: OneTask = None,
    limit: Limit = 100,
    every: ALL = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the jobs of a dataset. A job's state is that of its tasks; with --task that of this task alone.

    Examples:

      icp jobs muons --state failed

      icp jobs muons --job 100-199 --json
    """
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset
    from icp.ledger.views_jobs import JOB_STATES
    from icp.ledger.views_jobs import jobs as read

    choose(state, JOB_STATES, "--state")
    ledger = open_here()
    with ledger.read() as db:
        number = the_dataset(ledger, dataset)
        graph = Definitions(db).graph(number)
        spans = job_spans(job, one_dataset(db, number).jobs)
        most = chosen_limit(limit, every)
        one = task_of(graph, task)
        found = list(islice(chain.from_iterable(read(db, graph, *span, state=state, site=site, task=one, limit=most) for span in spans), most))
    output.show(
        found,
        {
            ">job": lambda one: str(one.job) if one.job == one.last else f"{one.job}-{one.last}",
            "state": lambda one: paint(one.state, JOB_COLOURS.get(one.state, "")),
            "tasks": lambda one: ", ".join(f"{n} {word}" for word, n in one.tasks.items()),
            "sites": lambda one: clean(", ".join(one.sites)),
        },
        as_json=as_json,
        quiet=(lambda one: str(one.job) if one.job == one.last else f"{one.job}-{one.last}") if quiet else None,
        empty="no job like that",
    )
    if len(found) == most and not as_json and not quiet:
        output.say(paint("there may be more: --limit N, or --all", "dim"))

"""`icp tasks`: the tasks of a dataset (hides only the printing)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
    all_jobs,
    chosen_limit,
    job_spans,
    job_text,
    open_here,
    state_option,
    task_of,
    the_dataset,
)  # fmt: skip
from icp.commands.jobs import JOB_COLOURS
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.ledger.views_jobs import TaskView

__all__ = ["tasks"]


def tasks(
    dataset: DatasetName,
    job: Jobs = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", show_default=False,
            help="Only tasks in this state: idle, waiting, queued, processing, ok, failed, suspended, cancelled.",
        ),
    ] = None,
    site: SiteName = None,
    task: OneTask = None,
    limit: Limit = 100,
    every: ALL = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List tasks, each with its accepted attempt or its last one. Jobs that are not released yet have none.

    --job also takes `final`, or `final/3` for a group of a final task.

    Examples:

      icp tasks muons --job 17

      icp tasks muons --state failed --task detect --json
    """
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset
    from icp.ledger.views_jobs import tasks as read

    state_option(state)
    ledger = open_here()
    most = chosen_limit(limit, every)
    with ledger.read() as db:
        number = the_dataset(ledger, dataset)
        graph = Definitions(db).graph(number)
        one = task_of(graph, task)
        width = one_dataset(db, number).jobs
        spans = job_spans(job, width, one, finals=True) if job else [(0, width - 1), (all_jobs(width)[0], -1)]
        found: list[TaskView] = []
        for first, last in spans:
            room = None if most is None else most - len(found)
            part = read(db, graph, first, last, state=state, site=site, task=one, limit=room)
            found += part if first >= 0 else part[::-1]
    output.show(
        found,
        {
            ">job": lambda row: job_text(row.job, row.group),
            "task": lambda row: clean(row.task),
            "state": lambda row: paint(row.state, JOB_COLOURS.get(row.state, "")),
            ">tries": lambda row: str(row.tries),
            "site": lambda row: clean(row.site or "-"),
            "host": lambda row: clean(row.host or "-"),
            ">wall": lambda row: "-" if row.wall is None else output.duration(row.wall),
            ">memory": lambda row: "-" if row.memory is None else output.plain_size(row.memory),
            ">exit": lambda row: "-" if row.exit is None else str(row.exit),
            "error": lambda row: clean(row.error or ""),
        },
        as_json=as_json,
        quiet=(lambda row: f"{job_text(row.job, row.group)} {row.task}") if quiet else None,
        empty="no task like that",
    )
    if len(found) == most and not as_json and not quiet:
        output.say(paint("there may be more: --limit N, or --all", "dim"))

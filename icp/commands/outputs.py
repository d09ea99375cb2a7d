"""`icp outputs`: where the files of a dataset are (hides only the printing)."""

from __future__ import annotations

import os
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
    task_of,
    the_dataset,
)  # fmt: skip
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.ledger.views_results import OutputView

__all__ = ["outputs"]

COLOURS = {"home": "green", "lost": "red", "dropped": "dim"}


def outputs(
    dataset: DatasetName,
    job: Jobs = None,
    task: OneTask = None,
    site: SiteName = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only files that are not home.")] = False,
    kept: Annotated[bool, typer.Option("--kept/--every", help="Files that are kept, or intermediate ones too.")] = True,
    limit: Limit = 100,
    every: ALL = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List outputs of accepted attempts: path, size, sha256, and whether they are home. --quiet prints the paths of those that are.

    --job also takes `final`, or `final/3` for a group of a final task.

    Examples:

      icp outputs muons --task merge

      icp outputs muons --quiet --all | xargs -d '\\n' ls -l

      icp outputs muons --missing
    """
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset
    from icp.ledger.views_results import outputs as read

    ledger = open_here()
    most = chosen_limit(limit, every)
    with ledger.read() as db:
        number = the_dataset(ledger, dataset)
        graph = Definitions(db).graph(number)
        one = task_of(graph, task)
        view = one_dataset(db, number)
        spans = job_spans(job, view.jobs, one, finals=True) if job else [(0, view.jobs - 1), (all_jobs(view.jobs)[0], -1)]
        found: list[OutputView] = []
        for first, last in spans:
            room = None if most is None else most - len(found)
            found += read(db, graph, first=first, last=last, task=one, site=site, every=not kept, missing=missing, limit=room)
    if quiet:
        found = [row for row in found if row.path and (row.state == "home" or missing)]
    output.show(
        found,
        {
            ">job": lambda row: job_text(row.job, row.group),
            "task": lambda row: clean(row.task),
            "state": lambda row: paint(row.state, COLOURS.get(row.state, "")) if row.state == "home" else f"{row.state} at {clean(row.site)}",
            ">size": lambda row: output.plain_size(row.bytes),
            "sha256": lambda row: row.sha256[:16],
            "file": lambda row: clean(_from_here(row.path) if row.path and row.state == "home" else row.name),
        },
        as_json=as_json,
        quiet=(lambda row: row.path) if quiet else None,
        empty="every kept file that was made is home" if missing else f"nothing is made yet; it will be in {clean(view.outputs)}",
    )
    if len(found) == most and not as_json and not quiet:
        output.say(paint("there may be more: --limit N, or --all", "dim"))


def _from_here(path: str) -> str:
    """A path as one would type it here: below the working directory it begins there, and fits on the screen."""
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here)

"""`icp stats`: statistics of a dataset's accepted attempts (hides only the printing)."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, DatasetName, OneTask, choose, open_here, task_of, the_dataset
from icp.errors import BadInput
from icp.output import clean

if TYPE_CHECKING:
    from icp.ledger.views_results import StatView

__all__ = ["lines", "stats"]

COLUMNS = ("task", "name", "n", "sum", "mean", "deviation", "min", "max")


def stats(
    dataset: DatasetName,
    task: OneTask = None,
    by: Annotated[str, typer.Option("--by", metavar="task|dataset", help="One row for each task's statistic, or for all tasks together.")] = "task",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show n, sum, mean, deviation, min and max of what tasks reported, and of their cpu and wall time (s), memory, and files by URL (bytes).

    Only accepted attempts count, each once.

    Examples:

      icp stats muons

      icp stats muons --task detect --csv
    """
    from icp.ledger.definitions import Definitions
    from icp.ledger.views_results import statistics, usage

    choose(by, ("task", "dataset"), "--by")
    if as_csv and as_json:
        raise BadInput("--csv and --json: one of them only")
    ledger = open_here()
    with ledger.read() as db:
        graph = Definitions(db).graph(the_dataset(ledger, dataset))
        one = task_of(graph, task)
        together = by == "dataset"
        found = statistics(db, graph, task=one, together=together) + usage(db, graph, task=one, together=together)
    if as_json:
        output.print_json(found)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, name) for name in COLUMNS] for row in found)
    elif found:
        for text in lines(found):
            output.say(text)
    else:
        output.say("nothing is ok yet")


def lines(found: Sequence[StatView]) -> list[str]:
    """The table."""
    rows = [
        [clean(one.task or "all"), clean(one.name), output.number(one.n), *(f"{value:.6g}" for value in (one.sum, one.mean, one.deviation, one.min, one.max))]
        for one in found
    ]
    return output.table(["task", "statistic", ">n", ">sum", ">mean", ">deviation", ">min", ">max"], rows)

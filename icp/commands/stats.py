"""`icp stats`: statistics of a dataset's accepted attempts (hides only the printing)."""

from __future__ import annotations

import csv
import difflib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, DatasetName, OneTask, choose, open_here, task_of, the_dataset
from icp.errors import BadInput, NotFound
from icp.output import clean

if TYPE_CHECKING:
    from icp.ledger.views_results import StatView

__all__ = ["lines", "stats"]

COLUMNS = ("task", "name", "n", "sum", "mean", "deviation", "min", "max", "by")
BY = ("task", "site", "host", "job", "dataset")


def stats(
    dataset: DatasetName,
    task: OneTask = None,
    by: Annotated[
        str, typer.Option("--by", metavar="|".join(BY), help="One row for each statistic and task, site, host or job, or for all together.")
    ] = "task",
    stat: Annotated[str | None, typer.Option("--stat", "-s", metavar="NAME", help="Only this statistic.", show_default=False)] = None,
    plot: Annotated[bool, typer.Option("--plot", help="A histogram of the values of each statistic.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show n, sum, mean, deviation, min and max of what tasks reported, and of their cpu and wall time (s), memory, files by URL, and outputs (bytes).

    Only accepted attempts count, each once.

    Examples:

      icp stats muons

      icp stats muons --by site --task detect

      icp stats muons --task detect --stat wall --plot

      icp stats muons --by job --csv > muons.csv
    """
    from icp.ledger import views_stats
    from icp.ledger.definitions import Definitions

    choose(by, BY, "--by")
    if as_csv + as_json + plot > 1:
        raise BadInput("--csv, --json and --plot: one of them only")
    if plot and by not in ("task", "dataset"):
        raise BadInput(f"--plot --by {by}: histograms are of one task, or of all", "--by task or --by dataset")
    ledger = open_here()
    with ledger.read() as db:
        graph = Definitions(db).graph(the_dataset(ledger, dataset))
        one = task_of(graph, task)
        found = views_stats.stats(db, graph, by=by, task=one)
        names = list(dict.fromkeys(row.name for row in found))
        if stat is not None and found and stat not in names:
            near = difflib.get_close_matches(stat, names, 1)
            raise NotFound(f"no task reported {stat!r}", f"did you mean {near[0]}?" if near else f"there is {', '.join(names)}")
        found = [row for row in found if stat in (None, row.name)]
        bins = []
        if plot:
            bins = [views_stats.histogram(db, graph, row.name, row.min, row.max, task=graph.by_name(row.task) if row.task else one) for row in found]
    if as_json:
        output.print_json(found)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(row, name) for name in COLUMNS] for row in found)
    elif not found:
        output.say("nothing is ok yet")
    elif plot:
        for at, row in enumerate(found):
            from icp.commands.plots import histogram

            if at:
                output.say()
            of = f" of {clean(row.task)}" if row.task else ""
            output.say(output.paint(f"{clean(row.name)}{of}: {output.number(row.n)} values, mean {row.mean:.4g}, deviation {row.deviation:.4g}", "bold"))
            for text in histogram(bins[at]):
                output.say(text)
    else:
        for text in lines(found, by):
            output.say(text)


def lines(found: Sequence[StatView], by: str = "task") -> list[str]:
    """The table."""
    rows = [
        [clean(one.by or "all"), clean(one.name), output.number(one.n), *(f"{value:.5g}" for value in (one.sum, one.mean, one.deviation, one.min, one.max))]
        for one in found
    ]
    return output.table([by, "statistic", ">n", ">sum", ">mean", ">deviation", ">min", ">max"], rows, tight=True)

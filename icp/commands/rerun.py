"""`icp rerun`: one job again, and whether the bytes are the same (hides only the printing)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, OneTask, fetching, job_number, open_here, plural, the_dataset
from icp.commands.complete import dataset_names
from icp.errors import BadInput, Failed, NotFound
from icp.output import clean, paint, say

if TYPE_CHECKING:
    from icp.engine.rerun import Compared

__all__ = ["rerun"]

COLOURS = {"same": "green", "differs": "red", "not made": "red", "new": "yellow"}


def rerun(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET|EXPORT", help="A dataset, or what `icp export` wrote.", show_default=False, autocompletion=dataset_names)
    ],
    job: Annotated[str, typer.Option("--job", "-j", metavar="N", help="Which job; `final` for a final task (with --task).", show_default=False)],
    local: Annotated[bool, typer.Option("--local", help="Here, in the foreground.")] = False,
    task: OneTask = None,
    as_json: AsJson = False,
) -> None:
    """Do a job again as it was recorded, here, and say whether its outputs are the same bytes. Nothing that is recorded is changed.

    What was shipped with the dataset, its seed and the job's arguments are those of the record. Everything stays in icp-rerun/NAME/JOB/TASK below the
    current directory. Exit code 1: some output is another one, or a task failed. To do a job anew at a site: `icp reset`.

    Examples:

      icp rerun muons --job 17 --local

      icp rerun muons.zip --job 17 --local --task detect
    """
    from icp import config as configuration
    from icp.engine import rerun as again
    from icp.engine.foreground import Foreground
    from icp.engine.shipments import stock

    if not local:
        raise BadInput("rerun is done here: --local", f"`icp rerun {dataset} --job {job} --local`; to do it anew at a site: `icp reset {dataset} --job {job}`")
    config = configuration.load()
    path = Path(dataset).expanduser()
    ledger = None
    if _is_export(path):
        recorded, expected = again.of_export(path)
    else:
        ledger = open_here()
        recorded, expected = again.of_ledger(ledger, the_dataset(ledger, dataset))
    steering = recorded.steering
    number = job_number(job, recorded.jobs, None)
    assert number is not None
    if task is not None and task not in [one.name for one in steering.all_tasks]:
        raise NotFound(f"there is no task {task!r} in this dataset", f"its tasks are {', '.join(one.name for one in steering.all_tasks)}")
    again.check_final(recorded, number, task, ledger)
    made = expected(number)
    if not made:
        raise NotFound(f"nothing of job {job} was recorded yet, so nothing can be compared", f"`icp why {clean(dataset)} --job {job}`")
    here = Foreground(recorded, max(0, number), next(iter(config.sites.values())), ledger, Path("icp-rerun").absolute(), stock=stock(config.places))
    with fetching():
        here.provide()
    ran = here.run(here.wanted(task), lambda one: typer.secho(f"--- {one.name} ---", bold=True, err=True))
    compared = again.compare(ran, made)
    if as_json:
        output.print_json({
            "same": again.same(ran, compared), "files": compared,
            "tasks": [{"task": one.task, "ok": one.ok, "exit": one.exit, "directory": one.directory} for one in ran],
        })  # fmt: skip
    else:
        _print(compared)
    if not all(one.ok for one in ran):
        raise Failed(f"task {ran[-1].task} of job {job} failed here: {ran[-1].why.strip().splitlines()[-1] if ran[-1].why.strip() else ran[-1].exit}",
                     f"look into {ran[-1].directory}")  # fmt: skip
    other = [one for one in compared if one.word != "same"]
    if other:
        raise Failed(f"{plural(len(other), 'output')} of job {job} {'is' if len(other) == 1 else 'are'} not the bytes that were recorded",
                     "times, host names or threads in an output make it another one each time; so does other software: `icp provenance`")  # fmt: skip
    if not as_json:
        say(f"the same bytes: {plural(len(compared), 'output')} of {plural(len(ran), 'task')}")


def _is_export(path: Path) -> bool:
    return (path.is_dir() and (path / "definition.json").exists()) or (path.is_file() and path.suffix == ".zip")


def _print(compared: list[Compared]) -> None:
    rows = [[clean(one.task), clean(one.name), paint(one.word, COLOURS[one.word]), (one.recorded or "-")[:16], (one.now or "-")[:16]] for one in compared]
    for line in output.table(["task", "output", "bytes", "recorded", "now"], rows):
        say(line)

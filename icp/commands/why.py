"""`icp why`: one sentence, the evidence, and the command that mends it (hides only the printing)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, OneJob, OneTask, open_here
from icp.commands.complete import dataset_names
from icp.output import paint, say

if TYPE_CHECKING:
    from icp.commands.reasons import Answer

__all__ = ["why"]


Thing = Annotated[
    str,
    typer.Argument(
        metavar="DATASET|SITE|PILOT", help="Name, number, or a unique beginning of a dataset's name; a site's name; a pilot's id.", show_default=False,
        autocompletion=dataset_names,
    ),
]  # fmt: skip


def why(dataset: Thing, job: OneJob = None, task: OneTask = None, as_json: AsJson = False) -> None:
    """Say why a dataset, a job, a task, a site or a pilot is in the state that it is in, by what, and what to do.

    Examples:

      icp why muons

      icp why muons --job 17 --task detect

      icp why nsa
    """
    from icp import config
    from icp.commands import reasons

    ledger = open_here()
    configuration = config.load()
    with ledger.read() as db:
        answers = reasons.why(db, configuration, dataset, time.time(), job=job, task=task)
    _print(answers, as_json)


def _print(answers: Sequence[Answer], as_json: bool) -> None:
    if as_json:
        output.print_json(answers)
        return
    for one in answers:
        about = output.clean(one.about)
        head, *rest = output.folded(f"{about}: {output.clean(one.sentence)}", indent="    ")
        say(head.replace(about, paint(about, "bold"), 1))
        for text in rest:
            say(text)
        for text in one.evidence:
            # what a task printed stays as it was
            line = f"    {output.clean(text)}"
            for part in [line] if text.startswith("|") else output.folded(line, indent="      "):
                say(part)
        if one.mend:
            say(f"    {paint('do:', 'green')} {output.clean(one.mend)}")

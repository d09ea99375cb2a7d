"""`icp why`: one sentence, the evidence, and the command that mends it (hides only the printing)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, OneJob, OneTask, job_number, open_here, task_of, the_dataset
from icp.commands.complete import dataset_names
from icp.errors import NotFound
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
    from icp.commands import reasons_chains
    from icp.commands.reasons import Teller
    from icp.commands.reasons_sites import of_pilot, of_site
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset

    ledger = open_here()
    configuration = config.load()
    now = time.time()
    with ledger.read() as db:
        try:
            number = the_dataset(ledger, dataset)
        except NotFound as error:
            answers = of_site(db, configuration, dataset, now) or of_pilot(db, dataset, now)
            if answers is None:
                raise NotFound(f"there is no dataset, site or pilot {dataset!r}", error.hint) from None
            _print(answers, as_json)
            return
        graph = Definitions(db).graph(number)
        view = one_dataset(db, number)
        definition = task_of(graph, task)
        at = job_number(job, view.jobs, definition)
        teller = Teller(db, graph, view, configuration, now)
        answers = teller.dataset(definition) if at is None else teller.job(at, definition)
        answers += reasons_chains.follows(db, number) if at is None else []
        answers += reasons_chains.sources(db, number, *((0, view.jobs - 1) if at is None else (at, at)))
    _print(answers, as_json)


def _print(answers: Sequence[Answer], as_json: bool) -> None:
    if as_json:
        output.print_json(answers)
        return
    for one in answers:
        say(f"{paint(output.clean(one.about), 'bold')}: {output.clean(one.sentence)}")
        for text in one.evidence:
            say(f"    {output.clean(text)}")
        if one.mend:
            say(f"    {paint('do:', 'green')} {output.clean(one.mend)}")

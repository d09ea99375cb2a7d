"""`icp why`: one sentence, the evidence, and the command that mends it (hides only the printing)."""

from __future__ import annotations

import time

from icp import output
from icp.commands.arguments import AsJson, DatasetName, OneJob, OneTask, job_number, open_here, task_of, the_dataset
from icp.output import paint, say

__all__ = ["why"]


def why(dataset: DatasetName, job: OneJob = None, task: OneTask = None, as_json: AsJson = False) -> None:
    """Say why a dataset, a job or a task is in the state that it is in, by what, and what to do.

    Examples:

      icp why muons

      icp why muons --job 17 --task detect
    """
    from icp import config
    from icp.commands.reasons import Teller
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset

    ledger = open_here()
    configuration = config.load()
    with ledger.read() as db:
        number = the_dataset(ledger, dataset)
        graph = Definitions(db).graph(number)
        view = one_dataset(db, number)
        definition = task_of(graph, task)
        at = job_number(job, view.jobs, definition)
        teller = Teller(db, graph, view, configuration, time.time())
        answers = teller.dataset(definition) if at is None else teller.job(at, definition)
    if as_json:
        output.print_json(answers)
        return
    for one in answers:
        say(f"{paint(output.clean(one.about), 'bold')}: {output.clean(one.sentence)}")
        for text in one.evidence:
            say(f"    {output.clean(text)}")
        if one.mend:
            say(f"    {paint('do:', 'green')} {output.clean(one.mend)}")

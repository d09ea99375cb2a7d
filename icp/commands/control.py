"""`icp suspend | resume | retry | reset | cancel | delete`: orders of a person, recorded at once (hides only the asking)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import (
    DatasetName,
    Jobs,
    OneTask,
    Yes,
    confirm,
    job_spans,
    jobs_text,
    open_here,
    plural,
    task_of,
    the_dataset,
)
from icp.commands.complete import dataset_names
from icp.errors import BadInput, Refused
from icp.output import clean

if TYPE_CHECKING:
    from icp.ledger.control import Control
    from icp.ledger.db import Ledger
    from icp.ledger.definitions import TaskDefRow

__all__ = ["DryRun", "Order", "cancel", "delete", "reset", "resume", "retry", "suspend"]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and change nothing.")]


class Order:
    """What an order is about: a dataset, or some of its jobs, or one task of them."""

    def __init__(self, dataset: str, jobs: list[str] | None, task: str | None) -> None:
        from icp.ledger.control import Control
        from icp.ledger.definitions import Definitions
        from icp.ledger.views import one_dataset

        self.ledger: Ledger = open_here()
        number = the_dataset(self.ledger, dataset)
        definitions = Definitions(self.ledger.db)
        self.view = one_dataset(self.ledger.db, number)
        self.whole = not jobs and task is None
        self.task: TaskDefRow | None = task_of(definitions.graph(number), task)
        self.spans = job_spans(jobs, self.view.jobs, self.task)
        self.control: Control = Control(self.ledger, definitions, number, time.time())
        self.name = clean(self.view.name)

    @property
    def about(self) -> str:
        text = f"dataset {self.name}"
        if not self.whole:
            jobs = "all jobs" if self.spans == [(0, self.view.jobs - 1)] else jobs_text(self.spans)
            text = f"{jobs} of {text}"
        return f"task {clean(self.task.name)} in {text}" if self.task else text

    def each(self, order: Callable[[int, int, int | None], None]) -> None:
        """Give an order of :class:`Control` for every range."""
        for first, last in self.spans:
            order(first, last, self.task.id if self.task else None)

    def preview(self, word: str) -> None:
        """What the order would find."""
        from icp.ledger.definitions import Definitions
        from icp.ledger.views_jobs import definition_states, spans

        with self.ledger.read() as db:
            counts: dict[str, int] = {}
            for span in self.spans:
                for low, high, state in spans(db, self.view.number, *span):
                    counts[state] = counts.get(state, 0) + high - low + 1
            states = definition_states(db, Definitions(db).graph(self.view.number))
        found = [(n, "at work or done" if state == "rows" else f"that {'is' if n == 1 else 'are'} {state}") for state, n in counts.items()]
        parts = [f"{plural(n, 'job')} {what}" for n, what in found]
        output.say(f"would {word} {self.about}: {'; '.join(parts) or 'it has no job yet'}; nothing was changed")
        for one in states:
            if self.task is None or one.task == self.task.name:
                output.say(f"  {clean(one.task)}: " + (", ".join(f"{n} {state}" for state, n in one.states.items()) or "no rows yet") + " in the whole dataset")

    def said(self, what: str) -> None:
        n = self.control.changed
        output.say(f"{self.about}: {what}" + (f" ({plural(n, 'task')})" if n else "; no task was in a state to be changed" if not self.whole else ""))


def suspend(dataset: DatasetName, jobs: Jobs = None, task: OneTask = None, dry_run: DryRun = False) -> None:
    """Send nothing more. Unclaimed cards come back; what runs may end, and counts.

    Examples:

      icp suspend muons

      icp suspend muons --job 5000-
    """
    order = Order(dataset, jobs, task)
    if dry_run:
        order.preview("suspend")
        return
    if order.whole:
        order.control.suspend()
        output.say(f"dataset {order.name} is suspended; `icp resume {order.name}` goes on")
    else:
        order.each(order.control.suspend_jobs)
        order.said(f"suspended; `icp resume {order.name}` goes on")


def resume(dataset: DatasetName, jobs: Jobs = None, task: OneTask = None, dry_run: DryRun = False) -> None:
    """Go on with what is suspended; stop-loss counts anew.

    Example:

      icp resume muons
    """
    order = Order(dataset, jobs, task)
    if dry_run:
        order.preview("resume")
        return
    if order.whole:
        order.control.resume()
        output.say(f"dataset {order.name} goes on")
    else:
        order.each(order.control.resume_jobs)
        if order.view.state == "suspended":
            order.said(f"resumed, but the dataset itself is suspended: `icp resume {order.name}`")
        else:
            order.said("resumed")


def retry(dataset: DatasetName, jobs: Jobs = None, task: OneTask = None, dry_run: DryRun = False) -> None:
    """Let failed tasks go again, with all their tries. What is ok stays.

    Examples:

      icp retry muons

      icp retry muons --job 17,20-29
    """
    order = Order(dataset, jobs, task)
    if dry_run:
        order.preview("retry")
        return
    order.each(order.control.retry_jobs)
    tail = f"; the dataset is suspended, so `icp resume {order.name}` too" if order.view.state == "suspended" else ""
    if order.control.changed:
        output.say(f"{order.about}: {plural(order.control.changed, 'failed task')} will go again{tail}")
    else:
        output.say(f"{order.about}: nothing has failed{tail}")


def reset(dataset: DatasetName, jobs: Jobs = None, task: OneTask = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Do jobs anew, finished ones too: what they did before is void. With --task: that task and what follows from it.

    Examples:

      icp reset muons --job 17

      icp reset muons --task detect --yes
    """
    order = Order(dataset, jobs, task)
    if dry_run:
        order.preview("reset")
        return
    confirm(f"Do {order.about} anew ({plural(order.view.ok, 'task')} of the dataset are ok)?", yes)
    order.each(order.control.reset_jobs)
    order.said("will be done anew")


def cancel(dataset: DatasetName, jobs: Jobs = None, task: OneTask = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Give up: everything that is not ok is cancelled at once, what runs is told to stop. Outputs that are home stay.

    With --task: that task and what follows from it in the same job.

    Examples:

      icp cancel muons

      icp cancel muons --job 9000-9999 --yes
    """
    order = Order(dataset, jobs, task)
    if dry_run:
        order.preview("cancel")
        return
    if order.whole and order.view.state in ("complete", "cancelled"):
        raise Refused(f"dataset {order.name} is {order.view.state}: nothing is left to cancel", f"`icp delete {order.name}` forgets it")
    if order.view.state == "cancelled":
        raise Refused(f"dataset {order.name} is cancelled already")
    confirm(f"Cancel {order.about}? {'It is for good.' if order.whole else 'Only `icp reset` brings it back.'}", yes)
    if order.whole:
        order.control.cancel()
        output.say(f"dataset {order.name} is cancelled; {plural(order.view.ok, 'task')} had been ok")
    else:
        order.each(order.control.cancel_jobs)
        order.said("cancelled")


def delete(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name or number, in full.", show_default=False, autocompletion=dataset_names)],
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Forget a dataset that ended, and free its name. Its outputs stay, and so does what the ledger knows of it.

    Example:

      icp delete muons
    """
    order: Any = Order(dataset, None, None)
    if dataset not in (order.view.name, str(order.view.number)):
        raise BadInput(f"{dataset!r} is only the beginning of a name", f"`icp delete {order.name}`, in full")
    if dry_run:
        output.say(f"would forget dataset {order.name} ({order.view.state}); nothing was changed")
        return
    if order.view.state in ("complete", "cancelled"):
        confirm(f"Forget dataset {order.name}? Its outputs stay in {clean(order.view.outputs)}.", yes)
    order.control.delete()
    output.say(f"dataset {order.name} is forgotten; its outputs stay in {clean(order.view.outputs)}")

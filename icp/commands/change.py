"""`icp set | extend | rename`: a dataset is changed after it was submitted (hides only the asking)."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import DatasetName, Jobs, Yes, confirm, plural
from icp.commands.complete import dataset_names
from icp.commands.control import DryRun, Order
from icp.errors import BadInput, NotFound
from icp.output import clean

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["extend", "rename", "set_"]

PRIORITY = 5000
"""Priorities beyond this are cut in the name of a card."""
KEYS = ("priority", "sites", "max-running", "max-tries", "stop-loss", "category")


def set_(
    dataset: DatasetName,
    key: Annotated[str, typer.Argument(metavar="|".join(KEYS), help="What to set.", show_default=False)],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="A number (of max-running `none` too), a text, or names of sites with commas (or `any`).", show_default=False)
    ],
    jobs: Jobs = None,
    dry_run: DryRun = False,
) -> None:
    """Change a dataset that is at work. Cards that wait at sites come back where the new value forbids them; what runs may end, and counts.

    priority: among datasets (0 is the default, the higher the earlier), or with --job among its jobs, those too that do not exist yet.
    sites: where it may run. max-running: tasks at sites at once, at the most. max-tries: failures that end a task. stop-loss: identical errors that
    suspend it (0: never). category: a word to find it by.

    Examples:

      icp set muons priority 10

      icp set muons priority 10 --job 0-99

      icp set muons sites nsa,nsb

      icp set muons max-running 200
    """
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1)
        raise BadInput(f"{key}: expected one of {', '.join(KEYS)}", f"did you mean {near[0]}?" if near else f"`icp set {dataset} priority 10`")
    order = Order(dataset, jobs, None)
    if not order.whole and key != "priority":
        raise BadInput(f"{key} is the dataset's, not that of some jobs", f"`icp set {dataset} {key} {value}`, without --job")
    change, said = _change(order, key, value)
    if dry_run:
        output.say(f"would set {said}; nothing was changed")
        return
    change()
    output.say(f"{order.about}: {said}")


def _change(order: Order, key: str, value: str) -> tuple[Callable[[], None], str]:
    from icp.ledger import change

    control = order.control
    if key == "priority":
        number = _integer(key, value, 0, PRIORITY)
        said = f"priority {number}, from the next card on"
        if order.whole:
            return lambda: control.set_priority(number), said
        return lambda: order.each(lambda first, last, _: control.prioritise_jobs(first, last, number)), said
    if key == "sites":
        names = _sites(value)
        said = "sites any" if names is None else f"sites {', '.join(names)}"
        return _written(order, lambda: change.set_sites(control, names)), said
    if key == "max-running":
        most = None if value in ("none", "any") else _integer(key, value, 1, 10**9)
        return _written(order, lambda: change.set_max_running(control, most)), f"max-running {most or 'none'}"
    if key == "category":
        if len(value) > 100 or clean(value) != value:
            raise BadInput("category: expected a text of at most 100 characters on one line")
        return _written(order, lambda: change.set_category(control, value)), f"category {value}"
    number = _integer(key, value, int(key == "max-tries"), 10**6)
    setter = change.set_max_tries if key == "max-tries" else change.set_stop_loss
    return _written(order, lambda: setter(control, number)), f"{key} {number}"


def _written(order: Order, what: Callable[[], None]) -> Callable[[], None]:
    def change() -> None:
        with order.ledger.write():
            what()

    return change


def _integer(key: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        also = ", or none" if key == "max-running" else ""
        raise BadInput(f"{key} {text}: expected a whole number from {least} to {most}{also}")
    return int(text)


def _sites(text: str) -> list[str] | None:
    from icp import config

    if text == "any":
        return None
    names = list(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    known = config.load().sites
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise NotFound(f"there is no site {name}", f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")
    if not names:
        raise BadInput("sites: expected names of sites with commas, or any", f"known are {', '.join(known)}")
    return names


def extend(
    dataset: DatasetName,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="How many more.", show_default=False)],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Add jobs to a dataset, with the numbers that follow. A complete one goes on; final tasks wait for the new jobs, and are done anew.

    Example:

      icp extend muons --jobs 500
    """
    from icp.ledger import change
    from icp.ledger.views_jobs import definition_states

    order = Order(dataset, None, None)
    view, graph = order.view, order.control.graph
    finals = [clean(one.task) for one in definition_states(order.ledger.db, graph) if one.final and one.states.get("ok")]
    anew = f"; final task{'s' * (len(finals) != 1)} {', '.join(finals)} will be done anew" if finals else ""
    text = f"dataset {order.name}: {plural(view.jobs + jobs, 'job')}, {view.jobs}-{view.jobs + jobs - 1} are new{anew}"
    if dry_run:
        output.say(f"would make it {text}; nothing was changed")
        return
    if finals:
        confirm(f"Extend dataset {order.name} by {plural(jobs, 'job')}{anew}?", yes)
    with order.ledger.write():
        change.extend(order.control, jobs)
    output.say(text)
    if "$args(jobs)" in _text(order):
        output.warn("warning: its steering file uses $args(jobs), which is another number from now on")


def _text(order: Order) -> str:
    from icp.ledger.views_jobs import steering_text

    return str(steering_text(order.ledger.db, order.view.number)[0])


def rename(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name or number, in full.", show_default=False, autocompletion=dataset_names)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new one.", show_default=False)],
) -> None:
    """Give a dataset another name. Its outputs stay where they are, and its jobs see the name that it was submitted with.

    Example:

      icp rename muons muons-2025
    """
    from icp.config import NAME
    from icp.ledger import change

    if not NAME.match(name) or len(name) > 100:
        raise BadInput(f"{name[:60]!r}: expected letters, digits, '.', '_' and '-'")
    order = Order(dataset, None, None)
    if dataset not in (order.view.name, str(order.view.number)):
        raise BadInput(f"{dataset!r} is only the beginning of a name", f"`icp rename {order.name} {name}`, in full")
    with order.ledger.write():
        change.rename(order.control, name)
    output.say(f"dataset {order.name} is {name} from now on; its outputs stay in {clean(order.view.outputs)}")

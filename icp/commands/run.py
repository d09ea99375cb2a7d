"""`icp run`: the engine in a loop, or once for cron (hides only the printing)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icp.model.exchange import refusal

if TYPE_CHECKING:
    from icp.config import Config
    from icp.engine.messenger import Messenger
    from icp.engine.tick import Ticked
    from icp.ledger.db import Ledger

__all__ = ["refusals", "run", "run_until_done"]


def run(
    once: Annotated[bool, typer.Option("--once", help="One pass, silent when all is well: for cron.")] = False,
    until_done: Annotated[bool, typer.Option("--until-done", help="End when no dataset has anything left to do.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but troubles.")] = False,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="With --once: write into this file, which stays small. Only what keeps it from working is printed, once.",
                     show_default=False),
    ] = None,
) -> None:  # fmt: skip
    """Run the engine: plan, send cards and pilots, bring facts and files home.

    It can be stopped at any moment, however hard, and started again. Two at once do no harm: the second one leaves.

    Examples:

      icp run

      icp run --until-done

      icp cron install
    """
    from icp import config as configuration
    from icp.engine.loop import engine_lock
    from icp.engine.loop import run as loop
    from icp.engine.messenger import Messenger
    from icp.errors import BadInput
    from icp.ledger import datasets
    from icp.ledger.db import open_ledger

    if log is not None:
        if not once:
            raise BadInput("--log is for ticks that nobody watches", "add --once")
        from icp.commands.unwatched import tick

        tick(log)
        return
    config = configuration.load()
    ledger = open_ledger(config.ledger)
    if once:
        _once(ledger, config)
        return
    messenger = Messenger(ledger, config.notify)
    try:
        with engine_lock(config):
            report = _Report(ledger, quiet)
            report.begin()
            loop(ledger, config, until=(lambda one: not datasets.something_to_do(one.db)) if until_done else None, seen=report, messenger=messenger)
            report.end()
        ledger.term = None  # it is no engine any more
        for text in messenger.wait():
            typer.secho(f"{_clock()} {text}", fg="yellow", err=True)
    finally:
        messenger.leave()


def _once(ledger: Ledger, config: Config) -> None:
    from icp.engine.loop import engine_lock, run_once
    from icp.engine.messenger import Messenger
    from icp.errors import Refused, Unreachable

    try:
        with engine_lock(config):
            ticked = run_once(ledger, config)
    except Refused as refused:
        if not refused.message.startswith("another engine runs already"):
            raise
        return
    ledger.term = None  # it is no engine any more
    for text in Messenger(ledger, config.notify).wait():
        typer.secho(text, fg="yellow", err=True)
    refusals(ticked)
    if ticked.troubles:
        raise Unreachable("; ".join(f"site {site} {why}" for site, why in ticked.troubles.items()), "the next tick tries again")


def run_until_done(ledger: Ledger, config: Config, dataset: int, *, quiet: bool = False) -> None:
    """The loop until one dataset is done, with the dashboard on a terminal; the caller holds the engine's lock."""
    from icp.engine.loop import run as loop
    from icp.engine.messenger import Messenger
    from icp.ledger import datasets

    report = _Report(ledger, quiet, dataset)
    messenger = Messenger(ledger, config.notify)
    try:
        if quiet or not sys.stdout.isatty():
            loop(ledger, config, until=lambda one: datasets.at_rest(one.db, dataset), seen=report, messenger=messenger)
        else:
            _beside_dashboard(ledger, config, dataset, messenger)
    finally:
        messenger.leave()
    report.end()


def _beside_dashboard(ledger: Ledger, config: Config, dataset: int, messenger: Messenger) -> None:
    """The loop in a thread of its own, the dashboard in this one, so that Ctrl-C reaches the dashboard and ends both."""
    import threading

    from icp.backends.openssh import leave
    from icp.commands.dashboard import watch
    from icp.engine.loop import run as loop
    from icp.ledger import datasets
    from icp.ledger.db import open_ledger

    trouble: list[BaseException] = []

    def engine() -> None:
        try:
            loop(
                ledger, config, until=lambda one: datasets.at_rest(one.db, dataset), seen=lambda ticked: refusals(ticked, whole=False), messenger=messenger
            )
        except BaseException as error:  # noqa: BLE001 -- carried to the thread that can show it
            trouble.append(error)

    thread = threading.Thread(target=engine, daemon=True)
    thread.start()
    try:
        keys = "q stops watching and working; nothing is lost, and `icp run` goes on"
        if not watch(open_ledger(config.ledger), dataset=str(dataset), pause=0.5, stop=lambda: not thread.is_alive(), keys=keys):
            raise KeyboardInterrupt
    finally:
        leave()
    if trouble:
        raise trouble[0]


def refusals(ticked: Ticked, *, whole: bool = True) -> None:
    """Refused for a site that refuses; ``whole`` False: only where no other site is left to work with."""
    from icp.errors import Refused

    for site, why in ticked.refused.items():
        if whole or ticked.alone:
            raise Refused(f"site {site} {refusal(why)}", "if this ledger shall go on, `icp ledger adopt`")


class _Report:
    """One line when something happened; troubles once each."""

    def __init__(self, ledger: Ledger, quiet: bool, dataset: int | None = None) -> None:
        self.ledger, self.quiet, self.dataset = ledger, quiet, dataset
        self.troubles: dict[str, str] = {}
        self.last = ""
        self.at_work = [] if dataset is None else [dataset]

    def begin(self) -> None:
        from icp.ledger import datasets

        self.at_work = datasets.at_work(self.ledger.db)
        if not self.quiet:
            typer.echo("engine runs; Ctrl-C stops it, nothing is lost; `icp status --watch` in another terminal shows it")

    def __call__(self, ticked: Ticked) -> None:
        refusals(ticked, whole=False)
        refused = {site: f"{refusal(why)}; `icp ledger adopt`" for site, why in ticked.refused.items()}
        mute = {site: f"its batch system does not answer ({why}): what it has of pilots is not known until it does" for site, why in ticked.mute.items()}
        troubles = {**ticked.troubles, **refused, **mute}
        for site, why in troubles.items():
            # when it is tried next is no news
            if self.troubles.get(site, "").partition(" (next try in ")[0] != why.partition(" (next try in ")[0]:
                typer.secho(f"{_clock()} site {site} {why}", fg="yellow", err=True)
        for site in self.troubles.keys() - troubles.keys():
            if site in ticked.answered:
                typer.echo(f"{_clock()} site {site} answers again", err=True)
                del self.troubles[site]
        self.troubles |= troubles
        for untold in ticked.untold:
            typer.secho(f"{_clock()} {untold}", fg="yellow", err=True)
        text = self._counts()
        if text and not self.quiet and text != self.last:
            typer.echo(f"{_clock()} {text}")
        self.last = text

    def _counts(self) -> str:
        from icp.ledger import datasets
        from icp.states import Task

        counts = datasets.counts(self.ledger.db, self.dataset)
        said = [f"{counts[state]} {state.name.lower()}" for state in Task if counts.get(state)]
        return f"tasks: {', '.join(said)}" if said else ""

    def end(self) -> None:
        """How each dataset that was at work came out."""
        for number in [] if self.quiet else self.at_work:
            typer.echo(self._outcome(number))

    def _outcome(self, number: int) -> str:
        from icp.ledger.datasets import read_dataset
        from icp.states import Dataset

        row = read_dataset(self.ledger.db, number)
        if row.state == Dataset.COMPLETE:
            return f"dataset {row.name} is complete; outputs are in {row.outputs}"
        if row.reason or row.state != Dataset.PROCESSING:
            return f"dataset {row.name} is {row.state.name.lower()}{f': {row.reason}' if row.reason else ''}; `icp why {row.name}`"
        return f"dataset {row.name} has failed tasks; `icp why {row.name}`, then `icp retry {row.name}`"


def _clock() -> str:
    return time.strftime("%H:%M:%S")

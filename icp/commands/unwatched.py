"""A tick that nobody watches: what happened goes into the log, what keeps it from working is printed once (hides only the printing)."""

from __future__ import annotations

import contextlib
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from icp.commands.tick_log import TickLog
from icp.errors import BadInput, IcpError, Refused

if TYPE_CHECKING:
    from icp.config import Config
    from icp.ledger.db import Ledger

__all__ = ["tick"]


def tick(path: Path) -> None:
    """One tick, with its log. What goes wrong at sites is told by ``notify.command``, never by cron's mail."""
    log = TickLog(path.absolute())
    try:
        _tick(log)
    except IcpError as error:
        mistakes = error.mistakes if isinstance(error, BadInput) else ()
        _wrong(log, "\n  ".join([error.message, *mistakes]) + (f"\nhint: {error.hint}" if error.hint else ""))
        raise typer.Exit(error.code) from None
    except Exception as error:  # noqa: BLE001 -- nobody is there to see a traceback: it goes into the log
        log.say(traceback.format_exc())
        _wrong(log, f"this is a bug in icp: {type(error).__name__}: {error}")
        raise typer.Exit(1) from None
    log.well()


def _wrong(log: TickLog, text: str) -> None:
    log.say(text)
    if log.news(text):
        typer.echo(f"icp: {text}\nThis is said once; the log is {log.path}, and `icp cron show` shows its end.", err=True)


def _tick(log: TickLog) -> None:
    from icp import config as configuration
    from icp.commands.run import refusals
    from icp.engine.loop import engine_lock, run_once
    from icp.ledger import notices
    from icp.ledger.db import open_ledger

    config = configuration.load()
    ledger = open_ledger(config.ledger)
    with contextlib.closing(ledger):
        before, events = _sites(ledger), notices.newest(ledger.db)
        ticked = None
        try:
            with engine_lock(config):
                ticked = run_once(ledger, config, by="cron")
        except Refused as refused:
            if not refused.message.startswith("another engine runs already"):
                raise
        finally:
            ledger.term = None  # it is no engine any more
            if ticked is None:
                with ledger.write() as db:
                    notices.silence(db, time.time())
            _story(log, ledger, before, events)
            _tell(log, ledger, config)
        if ticked is not None:
            if ticked.facts or ticked.files:
                log.say(f"{ticked.facts} facts, {ticked.accepted} tasks ok, {ticked.files} files home")
            refusals(ticked)


def _tell(log: TickLog, ledger: Ledger, config: Config) -> None:
    """The lock is free by now: a command that hangs keeps nobody from ticking."""
    from icp.engine.messenger import Messenger

    for text in Messenger(ledger, config.notify).wait():
        log.say(text)


def _sites(ledger: Ledger) -> dict[str, Any]:
    from icp.ledger import views

    return {one.name: one for one in views.sites(ledger.db)}


def _story(log: TickLog, ledger: Ledger, before: dict[str, Any], events: int) -> None:
    """What changed, a line each."""
    from icp.ledger import notices

    for name, site in _sites(ledger).items():
        was = before.get(name)
        if not site.reachable and (was is None or was.reachable or bool(was.login) != bool(site.login)):
            log.say(f"site {name} {'needs a login' if site.login else 'does not answer'}: {site.reason}")
        elif site.reachable and was is not None and not was.reachable:
            log.say(f"site {name} answers again")
    for one in notices.since(ledger.db, events):
        log.say(one.text)

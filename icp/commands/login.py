"""`icp login`: opens the shared connection to a site with a person at the terminal (hides only the asking)."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.complete import site_names
from icp.errors import BadInput, Failed, NotFound
from icp.output import clean

if TYPE_CHECKING:
    from icp.backends.openssh import OpenSSH
    from icp.config import Config

__all__ = ["log_in", "login"]


def login(
    site: Annotated[
        str | None,
        typer.Argument(metavar="[SITE]", help="Name of the site; without it all that need a login.", show_default=False, autocompletion=site_names),
    ] = None,
    persist: Annotated[
        str, typer.Option("--persist", metavar="TIME", help="How long it stays open without work: ControlPersist of ssh_config; `yes` is until either end.")
    ] = "yes",
    check: Annotated[bool, typer.Option("--check", help="Only say whether a connection is open; exit code 5 if not.")] = False,
) -> None:
    """Open the shared connection to a site: ssh asks for passwords and codes here, ticks use the connection and never ask.

    Examples:

      icp login nsa

      icp login

      icp login nsa --persist 12h
    """
    from icp.config import load

    if not re.fullmatch(r"yes|[0-9]+[smhdwSMHDW]?", persist):
        raise BadInput(f"--persist {persist}: expected `yes`, or a time such as 12h")
    config = load()
    names = [site] if site is not None else _needing(config)
    if not names:
        output.say("no site needs a login")
    for name in names:
        way = _way(config, name)
        if check:
            if not way.connected:
                output.say(f"site {clean(name)}: no connection is open")
                raise typer.Exit(5)
            output.say(f"site {clean(name)}: a connection is open")
            continue
        log_in(name, way, persist)
        output.say(f"site {clean(name)}: the connection is open, and ticks use it until it ends")
        _noted(config, name)


def _noted(config: Config, name: str) -> None:
    """A loop that waits hears of it."""
    from icp.ledger.db import open_ledger

    try:
        ledger = open_ledger(config.ledger)
    except NotFound:
        return
    with ledger.write():
        ledger.audit(time.time(), f"login {name}")
    ledger.close()


def _needing(config: Config) -> list[str]:
    from icp.ledger import views
    from icp.ledger.db import open_ledger

    try:
        ledger = open_ledger(config.ledger)
    except NotFound:
        return []
    found = [one.name for one in views.sites(ledger.db) if one.login is not None and one.name in config.sites]
    ledger.close()
    return found


def _way(config: Config, name: str) -> OpenSSH:
    from icp.backends.openssh import OpenSSH
    from icp.engine.canary import site_of
    from icp.engine.lines import transport

    way = transport(config, site_of(config, name))
    if not isinstance(way, OpenSSH):
        raise BadInput(f"site {name} is this machine: there is nothing to log in to")
    return way


def log_in(name: str, way: OpenSSH, persist: str = "yes") -> None:
    """ssh asks at the terminal what it has to; Failed where no connection comes of it over which a command runs."""
    from icp.backends.base import Unknown

    if not way.connected and not sys.stdin.isatty():
        raise BadInput(f"icp login {name} wants a terminal: ssh asks for passwords and codes there", "run it by hand; ticks use the connection then")
    sys.stdout.flush()
    trouble = way.log_in(persist)
    if trouble is not None:
        raise Failed(f"site {name}: {trouble.sentence}", trouble.hint)
    answer = way.run(["/bin/sh", "-c", "exit 0"], b"", 60)
    if isinstance(answer, Unknown):
        raise Failed(f"site {name}: the connection is open, and no command runs over it: {answer.why}", "`ssh` there by hand shows what its shell says")

"""`icp doctor`: what this machine and each site mean for running there (hides only the printing)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson
from icp.commands.complete import site_names
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.config import Config
    from icp.engine.examination import Finding

__all__ = ["doctor"]


def doctor(
    site: Annotated[
        str | None,
        typer.Argument(metavar="[SITE]", help="Only this site; without it this machine and all sites.", show_default=False, autocompletion=site_names),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a site, or this machine, means for running there. Nothing is submitted: what only a worker can tell is from the last `icp site check`.

    Exit code 1 if something is in the way.

    Examples:

      icp doctor

      icp doctor nsa
    """
    from icp.config import load

    config = load()
    found = _all(config, site)
    if as_json:
        output.print_json([{"about": about, **_plain(one)} for about, some in found for one in some])
    else:
        now = time.time()
        for number, (about, some) in enumerate(found):
            if number:
                output.say()
            output.say(paint(clean(about), "bold"))
            _print(some, now)
    if any(one.ok is False for _, some in found for one in some):
        raise typer.Exit(1)


def _all(config: Config, site: str | None) -> list[tuple[str, list[Finding]]]:
    """What it is about, and what was found; hosts side by side."""
    from concurrent.futures import ThreadPoolExecutor

    from icp.engine.canary import site_of
    from icp.engine.examination import examine
    from icp.engine.examination_here import examine_here

    sites = list(config.sites.values()) if site is None else [site_of(config, site)]
    known = _login_nodes(config)
    with ThreadPoolExecutor(8) as pool:
        answers = [(f"site {one.name}", pool.submit(examine, config, one, known.get(one.name))) for one in sites]
        here = [("this machine", examine_here(config, _ticks(config)))] if site is None else []
        return here + [(about, answer.result()) for about, answer in answers]


def _login_nodes(config: Config) -> dict[str, str]:
    from icp.errors import IcpError
    from icp.ledger.db import open_ledger
    from icp.ledger.views_sites import site_story

    try:
        ledger = open_ledger(config.ledger)
    except IcpError:
        return {}
    found = {name: story.login for name in config.sites if (story := site_story(ledger.db, name)) and story.login}
    ledger.close()
    return found


def _ticks(config: Config) -> str:
    from icp.commands.cron import installed

    return ", ".join(f"{name} on this host" for name in installed(config))


def _plain(one: Finding) -> dict[str, object]:
    return {"name": one.name, "found": one.found, "means": one.means, "ok": one.ok, "at": one.at}


def _print(some: list[Finding], now: float) -> None:
    for one in some:
        mark = paint("ok", "green") if one.ok else paint("no", "red") if one.ok is False else paint("--", "yellow")
        when = "" if one.at is None else f" (found {output.ago(one.at, now)})"
        output.say(f"  {mark} {clean(one.name)}: {clean(one.found)}{when}")
        output.say(f"     {paint(clean(one.means), 'dim')}")

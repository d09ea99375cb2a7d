"""`icp overflow`: idle jobs of one's own HTCondor queue run elsewhere and come back (hides only the loop and the printing)."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from icp.commands.complete import site_names

if TYPE_CHECKING:
    from icp.config import Config, Site
    from icp.engine.overflow import Overflow, Passed

__all__ = ["overflow"]


def overflow(
    pool: Annotated[
        str | None, typer.Argument(metavar="[SITE]", help="The site whose queue it is (default: those with scheduler = condor).", autocompletion=site_names)
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="The queue of this machine's own HTCondor.")] = False,
    once: Annotated[bool, typer.Option("--once", help="One pass, silent when all is well: for cron.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which jobs it would take over, and change nothing.")] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, metavar="N", help="Jobs that are taken over at once, at the most.", show_default=False)] = None,
    pause: Annotated[float, typer.Option("--pause", min=1, metavar="SECONDS", help="Time between two passes.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each pass.")] = False,
) -> None:
    """Take over idle jobs of yours that are marked `+IcpOverflow = true`, run them at any site, and put their outputs where they belong.

    A job that is taken over is held in its queue, with a reason that names icp. When it is done its outputs are in place there and it is removed; when
    it fails or is cancelled here it is released there. What you release or remove yourself is left alone, and cancelled here. `icp run` runs the jobs;
    this command does a tick after each pass if no engine runs.

    Examples:

      icp overflow tier3 --dry-run

      icp overflow tier3 --max 200

      */5 * * * * icp overflow --here --once
    """
    from icp import config as configuration
    from icp.engine.lines import transport
    from icp.engine.overflow import Overflow, only_one
    from icp.errors import Unreachable
    from icp.ledger.db import open_ledger

    config = configuration.load()
    sites = _pools(config, pool, here)
    ledger = open_ledger(config.ledger, create=True)
    with only_one(config):
        pools = [Overflow(ledger, config, name, transport(config, site)) for name, site in sites]
        last: dict[str, str] = {}
        while True:
            troubles = []
            for one in pools:
                passed = one.once(most, dry_run)
                troubles += [f"{one.pool}: {trouble}" for trouble in passed.troubles]
                _say(one, passed, dry_run, as_json, last, quiet=once)
            if not dry_run:
                _tick(config)
            if troubles and (once or dry_run):
                raise Unreachable("; ".join(troubles), "the next pass tries again; nothing is lost")
            if once or dry_run:
                return
            time.sleep(pause)


def _pools(config: Config, pool: str | None, here: bool) -> list[tuple[str, Site]]:
    from icp import config as configuration
    from icp.errors import BadInput, NotFound
    from icp.model.plan import PilotSpec

    if here:
        if pool is not None:
            raise BadInput(f"--here and {pool}: expected one of them")
        return [("here", configuration.Site("here", "here", None, {}, {}, {}, None, PilotSpec()))]
    if pool is not None:
        if pool not in config.sites:
            raise NotFound(f"there is no site {pool}", f"known are {', '.join(config.sites)}; --here is this machine's own HTCondor")
        return [(pool, config.sites[pool])]
    found = [(name, site) for name, site in config.sites.items() if site.scheduler == "condor"]
    if not found:
        raise BadInput("which queue? no site has scheduler = condor", "`icp overflow SITE`, or `icp overflow --here`")
    return found


def _tick(config: Config) -> None:
    """Somebody has to run what was taken over; an engine that runs already does."""
    from icp.engine.loop import engine_lock, run_once
    from icp.errors import Refused
    from icp.ledger.db import open_ledger

    try:
        with engine_lock(config):
            # a connection of its own: as an engine it can write no more once another one took over
            ledger = open_ledger(config.ledger)
            run_once(ledger, config)
            ledger.close()
    except Refused as refused:
        if not refused.message.startswith("another engine runs already"):
            raise


def _say(pool: Overflow, passed: Passed, dry_run: bool, as_json: bool, last: dict[str, str], quiet: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"pool": pool.pool, **dataclasses.asdict(passed)}))
        return
    if dry_run:
        typer.echo(f"{pool.pool}: {len(passed.wanted)} jobs would be taken over{': ' if passed.wanted else ''}{', '.join(passed.wanted[:20])}"
                   f"{', ...' if len(passed.wanted) > 20 else ''}; nothing was changed")  # fmt: skip
    for job, why in list(passed.passed_over.items())[:20]:
        if last.get(f"{pool.pool} {job}") != why and not quiet:
            typer.echo(f"{pool.pool}: job {job} stays there: {why}")
            last[f"{pool.pool} {job}"] = why
    if quiet or dry_run:
        return
    for trouble in passed.troubles:
        typer.secho(f"{pool.pool}: {trouble}", fg="yellow", err=True)
    ends = {"removed": "delivered", "released": "released", "gone": "taken back"}
    counts = {"taken over": sum(n for state, n in passed.counts.items() if state not in ends)}
    counts |= {word: passed.counts.get(state, 0) for state, word in ends.items()}
    text = ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "no marked job is idle"
    if passed.datasets:
        text += f"; new: {', '.join(passed.datasets)}"
    if last.get(pool.pool) != text:
        typer.echo(f"{pool.pool}: {text}")
    last[pool.pool] = text

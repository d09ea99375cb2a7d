"""`icp site check`: a short real job at a site, from ssh to the last measurement, step by step (hides only the printing)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, TheSite, fetching
from icp.output import clean

if TYPE_CHECKING:
    from icp.engine.canary import Check, Step

__all__ = ["check"]

PAUSES = (0.5, 0.5, 1, 1, 2, 2, 2, 5)
SLOW = 15.0
"""Seconds between two looks at a job that waits."""


def check(
    site: TheSite,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1, metavar="SECONDS", help="Cancel the job when it has not ended by then (default: wait).", show_default=False),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End a check that is under way: cancel its job, remove its place.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a short job at a site, and print each step as it passes: ssh, Python, spool, submit, start, what login node and worker see of each other.

    Ctrl-C leaves it running there: `icp site show SITE` has the end, and `icp site check SITE` goes on with it. It has a place of its own below the
    site's root and needs no dataset; a running engine is not disturbed.

    Examples:

      icp site check nsa

      icp site check nsa --timeout 600 --json
    """
    from icp.config import load
    from icp.engine.canary import Check, last_check, site_of
    from icp.errors import Failed, NotFound

    config = load()
    configured = site_of(config, site)
    known = last_check(config, site)
    under_way = known if known is not None and known["state"] == "running" else None

    def told(step: Step) -> None:
        from icp.commands.site.show import step_line

        if not as_json:
            output.say(step_line(step.name, step.text, step.ok))

    one = Check(config, configured, told, under_way)
    if cancel:
        if under_way is None:
            raise NotFound(f"no check of {site} is under way", f"`icp site show {site}` has the last one")
        one.give_up("it was cancelled")
        output.say(f"the check of {clean(site)} is cancelled")
        return
    if under_way is None:
        with fetching():
            one.begin()
    elif not as_json:
        output.say(f"going on with the check of {output.clock(under_way['begun'])}" + (f" ({clean(under_way['word'])})" if under_way["word"] else ""))
    try:
        _until_over(one, timeout)
    except KeyboardInterrupt:
        output.warn(f"the check goes on there: `icp site show {site}` has the end, `icp site check {site} --cancel` ends it")
        raise
    if as_json:
        output.print_json(one.record)
    if one.record["state"] != "ok":
        raise Failed(f"site {site}: {one.record['why']}", one.record["hint"] or None)
    if not as_json:
        output.say(f"site {clean(site)} is fit for pilots")


def _until_over(one: Check, timeout: float | None) -> None:
    from icp.errors import Unreachable

    begun = time.monotonic()
    looks, failures = 0, 0
    while True:
        try:
            one.look()
            failures = 0
        except Unreachable:
            failures += 1
            if failures >= 5:
                raise
        if not one.over and timeout is not None and time.monotonic() - begun > timeout:
            one.give_up(f"the job has not ended within {timeout:.0f} s" + (f" ({one.record['word']})" if one.record["word"] else "") + "; it was cancelled")
        if one.over:
            return
        time.sleep(PAUSES[looks] if looks < len(PAUSES) else SLOW if looks > 20 else 5)
        looks += 1

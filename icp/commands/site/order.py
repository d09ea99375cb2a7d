"""`icp site pause | resume | drain`: what a site is told, recorded at once (hides only the asking)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import TheSite, plural
from icp.output import clean

if TYPE_CHECKING:
    from icp.config import Config
    from icp.ledger.db import Ledger
    from icp.ledger.removal import AtWork

__all__ = ["drain", "opened", "pause", "resume", "words"]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and change nothing.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for those who look later.", show_default=False)]


def opened(name: str) -> tuple[Config, Ledger, int]:
    """Configuration, ledger (made if there is none), and the number of a site that is configured or known; NotFound."""
    from icp.config import load
    from icp.engine.canary import site_of
    from icp.ledger import sites
    from icp.ledger.db import open_ledger

    config = load()
    if name in config.sites:
        ledger = open_ledger(config.ledger, create=True)
        with ledger.write():
            return config, ledger, sites.ensure_site(ledger, name, config.sites[name].zone)
    if config.ledger.exists():
        ledger = open_ledger(config.ledger)
        number = sites.number_of(ledger.db, name)
        if number is not None:
            return config, ledger, number
    site_of(config, name)
    raise AssertionError


def words(found: AtWork, empty: str = "nothing of ours is there") -> str:
    """What of ours is at a site, in words."""
    parts = [(found.attempts, "attempt"), (found.pilots, "pilot"), (found.agents, "agent")]
    said = [plural(n, one) for n, one in parts if n]
    if found.coming:
        said.append(f"{plural(found.coming, 'output')} to come home")
    if found.orders:
        said.append("orders that are not answered yet")
    if found.needed:
        said.append(f"{plural(found.needed, 'output')} that only this site has and tasks will read")
    return ", ".join(said) or empty


def pause(site: TheSite, reason: Reason = None, dry_run: DryRun = False) -> None:
    """Send no more cards and no more pilots. What is there goes on: running pilots work off the cards that wait for them.

    Example:

      icp site pause nsa --reason "maintenance on Tuesday"
    """
    from icp.ledger import removal, sites

    _, ledger, number = opened(site)
    if dry_run:
        output.say(f"would pause {clean(site)} ({words(removal.at_work(ledger.db, number))}); nothing was changed")
        return
    with ledger.write() as db:
        sites.pause(db, number, reason or "paused by its owner")
        ledger.audit(time.time(), f"site pause {site}", None, reason)
    output.say(f"site {clean(site)} is paused; `icp site resume {clean(site)}` goes on")


def resume(site: TheSite, dry_run: DryRun = False) -> None:
    """Let a paused or drained site work again. Pilots that ended early are forgotten.

    Example:

      icp site resume nsa
    """
    from icp.ledger import sites

    _, ledger, number = opened(site)
    if dry_run:
        output.say(f"would let {clean(site)} work again; nothing was changed")
        return
    with ledger.write() as db:
        sites.resume(db, number)
        ledger.audit(time.time(), f"site resume {site}")
    output.say(f"site {clean(site)} works again, from the next tick on")


def drain(
    site: TheSite,
    reason: Reason = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when nothing of ours is there; ticks itself where no engine runs.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let a site run empty: no new cards, unclaimed ones come back, pilots end when their tasks have, waiting pilots are cancelled.

    Examples:

      icp site drain nsa

      icp site drain nsa --wait
    """
    from icp.ledger import removal, sites

    config, ledger, number = opened(site)
    if dry_run:
        output.say(f"would drain {clean(site)} ({words(removal.at_work(ledger.db, number))}); nothing was changed")
        return
    with ledger.write() as db:
        sites.pause(db, number, reason or "drained by its owner", drain=True)
        ledger.audit(time.time(), f"site drain {site}", None, reason)
    if wait:
        _wait(config, ledger, number, site)
    left = removal.at_work(ledger.db, number)
    if not left.idle:
        output.say(f"site {clean(site)} drains ({words(left)}); the engine sees to it: `icp run`, or `icp run --once`")
    elif left.needed:
        output.say(f"site {clean(site)} is at rest, with {words(left)}: `icp site resume {clean(site)}` lets them, "
                   f"`icp site remove {clean(site)} --force` does what made them again elsewhere")  # fmt: skip
    else:
        output.say(f"site {clean(site)} is empty; `icp site resume {clean(site)}` lets it work again, `icp site remove {clean(site)}` takes it away")


def _wait(config: Config, ledger: Ledger, number: int, name: str) -> None:
    """Until nothing is there. The engine that runs does it; where none does, this process is it."""
    from icp.engine.loop import engine_lock
    from icp.engine.loop import run as loop
    from icp.errors import Refused
    from icp.ledger.removal import at_work

    last = [""]

    def empty(one: Ledger) -> bool:
        found = at_work(one.db, number)
        if not found.idle and words(found) != last[0]:
            last[0] = words(found)
            output.say(f"{clean(name)}: {last[0]}")
        return found.idle

    if empty(ledger):
        return
    if name not in config.sites:
        raise Refused(f"site {name} is not configured any more, so no engine can talk to it ({last[0]})",
                      f"put its table back into {config.places.config}, or `icp site remove {name} --force`")  # fmt: skip
    try:
        with engine_lock(config):
            told: set[Any] = set()

            def seen(ticked: Any) -> None:
                for one, why in {**ticked.troubles, **{at: f"refuses this ledger: {what}" for at, what in ticked.refused.items()}}.items():
                    if (one, why) not in told:
                        told.add((one, why))
                        output.warn(f"site {clean(one)} {clean(why)}")

            loop(ledger, config, until=empty, seen=seen)
            return
    except Refused as refused:
        if not refused.message.startswith("another engine runs already"):
            raise
    while not empty(ledger):
        time.sleep(1)

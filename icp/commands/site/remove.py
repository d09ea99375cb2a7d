"""`icp site remove`: what is ours leaves the site, then its table leaves the configuration (hides the order of it)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.arguments import TheSite, Yes, confirm
from icp.commands.site.order import DryRun, opened, words
from icp.output import clean

if TYPE_CHECKING:
    from icp.config import Config, Site
    from icp.ledger.db import Ledger

__all__ = ["remove"]


def remove(
    site: TheSite,
    keep_spool: Annotated[bool, typer.Option("--keep-spool", help="Leave what lies at the site as it is.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also a host that is gone for good: what was there is lost, and done elsewhere.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Take a site away: its spool and our program there, and its table in config.toml. The ledger keeps what was done there.

    Refused while something of ours is at work there: drain it first.

    Examples:

      icp site remove nsa

      icp site remove gone --force
    """
    from icp.config import remove_table, values
    from icp.errors import BadInput, Refused
    from icp.ledger import removal, sites

    config, ledger, number = opened(site)
    known = any(path.startswith(f"site.{site}.") for path in values(config.places))
    if site in config.sites and not known:
        raise BadInput(f"this machine is the site {site} as long as no other one is configured", "`icp site add NAME` configures another one")
    found = removal.at_work(ledger.db, number)
    if not found.nothing and not force:
        if found.idle:
            raise Refused(f"site {site} has {words(found)}", f"`icp site resume {site}` until they did, or --force: what made them is done again elsewhere")
        raise Refused(f"site {site} has {words(found)}",
                      f"`icp site drain {site}`, then `icp run --once` until it is empty (or `icp site drain {site} --wait`)")  # fmt: skip
    configured = config.sites.get(site)
    # forced while something may run there: nobody takes its directory away from under it
    talk = configured is not None and not keep_spool and (found.idle or not force)
    left = "" if found.nothing else words(found)
    if dry_run:
        _would(config, ledger, configured, site, left, talk)
        return
    lost = f" Given up, and done elsewhere: {left}." if left else ""
    confirm(f"Remove site {site}?{lost}", yes)
    before = sites.orders_of(ledger.db, number)
    with ledger.write() as db:
        sites.pause(db, number, "it is being removed")
    try:
        if talk:
            assert configured is not None
            talk = _cleared(config, ledger, configured, force)
        with ledger.write() as db:
            if force:
                _give_up(config, ledger, number)
            else:
                again = removal.at_work(db, number)
                if not again.nothing:
                    raise Refused(f"site {site} was given work meanwhile", f"`icp site drain {site}`, then again")
            if known:
                remove_table(config.places, f"site.{site}")
            removal.forget(ledger, number, site, time.time(), kept=keep_spool)
            ledger.audit(time.time(), f"site remove {site}", None, "forced" if force else "spool kept" if keep_spool else None)
    except BaseException:
        with ledger.write() as db:
            sites.put_back(db, number, before)
        raise
    output.say(f"site {clean(site)} is removed" + (f"; given up: {left}" if left else "") + "; what was done there stays in the ledger")
    if not talk:
        root = configured.root if configured else None
        output.say(f"its spool was left as it is{f' in {clean(root)}' if root else ''}")


def _cleared(config: Config, ledger: Ledger, site: Site, force: bool) -> bool:
    """Whether what is ours is gone from the site; forced, a host that does not answer is no obstacle."""
    from icp.errors import Unreachable

    try:
        _clear(config, ledger, site, dry=False)
    except Unreachable:
        if not force:
            raise
        return False
    return True


def _give_up(config: Config, ledger: Ledger, number: int) -> None:
    from icp.ledger.definitions import Definitions
    from icp.ledger.fold import Fold
    from icp.ledger.removal import give_up

    now = time.time()
    give_up(Fold(ledger, Definitions(ledger.db), now, backoff=config.policy.backoff), number, now)


def _would(config: Config, ledger: Ledger, configured: Site | None, name: str, left: str, talk: bool) -> None:
    parts = [f"take [site.{name}] out of {config.places.config}"] if configured else []
    if talk:
        assert configured is not None
        told = _clear(config, ledger, configured, dry=True)
        if told.get("spool"):
            parts.append(f"remove its spool in {configured.root or config.places.state / 'spool'}")
        if told.get("programs"):
            parts.append(f"remove {told['programs']} of our programs there")
    if left:
        parts.append(f"give up {left}")
    output.say("would " + "; ".join(clean(one) for one in parts or ["forget it"]) + "; nothing was changed")


def _clear(config: Config, ledger: Ledger, site: Site, *, dry: bool) -> dict[str, object]:
    """What is ours goes, below the root only, and only if the spool's owner is this ledger."""
    from icp.backends.base import Unknown
    from icp.backends.openssh import OpenSSH
    from icp.backends.pilot_program import PilotProgram
    from icp.backends.spool_client import SpoolPlace
    from icp.engine.canary import trouble_of
    from icp.engine.lines import transport
    from icp.errors import Failed, Refused

    way = transport(config, site)
    if isinstance(way, OpenSSH):
        way.try_now()
    base = site.root or config.places.state / "spool"
    place = SpoolPlace.install(base, ledger.uuid) if site.host is None else SpoolPlace.away(base, ledger.uuid, site.python)
    words = ["clear", "--root", str(base), "--ledger", ledger.uuid, *(["--dry-run"] if dry else [])]
    outcome = PilotProgram(way, place, site.env).run(words, 300)
    if isinstance(outcome, Unknown):
        error = trouble_of(site, way, outcome.why)
        error.hint = f"{error.hint or 'try again later'}; `--force` where the host is gone for good, `--keep-spool` to leave its spool"
        raise error
    if outcome.code != 0:
        said = outcome.err.decode("utf-8", "replace").strip().splitlines()
        kind = Refused if outcome.code == 4 else Failed
        raise kind(f"what is at site {site.name} cannot be removed: {(said or ['no reason was given'])[-1].removeprefix('clear: ')}",
                   "look at it there, or `--keep-spool` leaves it as it is")  # fmt: skip
    found = json.loads(outcome.out)
    return found if isinstance(found, dict) else {}

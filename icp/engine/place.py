"""Sites as the engine works with them: the configuration, the spool, the batch system, and what is under way (hides where a spool is)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from icp.backends.batch import BatchSystem, system
from icp.backends.spool_client import Query, SpoolPlace
from icp.config import Config, Site
from icp.engine.home import Home
from icp.engine.orders import Orders
from icp.engine.shipments import Shipped
from icp.errors import BadInput
from icp.ledger import removal, sites
from icp.ledger.db import Ledger
from icp.ledger.files import Coming
from icp.model.plan import SiteView

__all__ = ["Place", "found"]


@dataclass
class Place:
    """One site of one engine."""

    config: Site
    id: int
    spool: SpoolPlace
    batch: BatchSystem
    view: SiteView | None = None
    orders: Orders = field(default_factory=Orders)
    home: Home | None = None
    large: list[Coming] = field(default_factory=list)
    """What is wanted of it, and travels by itself."""
    query: Query = field(default_factory=Query)
    """What the conversation under way asks."""
    left: dict[str, str] = field(default_factory=dict)
    """pilot -> batch id of those that it asks the accounting for"""
    fresh: bool = True
    """Its batch system was not asked yet by this engine, and may have jobs of ours that the ledger does not know."""
    calm: float = 0.0
    """Seconds that pass between its conversations, and when (time.monotonic) the next one is due."""
    due: float = 0.0
    shipped: Shipped | None = ()
    """What its pilots may look for in the spool's cache; None: it is not here yet."""
    unshipped: str = ""
    """Why some of it cannot be had, and whether the site was paused for that."""
    refused: bool = False


def found(ledger: Ledger, config: Config, site: Site) -> Place:
    """A site's row and its spool; the place of the spool is fixed when the ledger first meets the site."""
    base = str(site.root or config.places.state / "spool")
    where = base if site.host is None else f"{site.host}:{base}"
    with ledger.write():
        number = sites.ensure_site(ledger, site.name, site.zone)
        known = ledger.meta(f"root:{site.name}")
        if known is None:
            ledger.set_meta(f"root:{site.name}", where)
        elif site.root is None and site.host is None:
            # a ledger that was copied elsewhere still means the spool that it knows
            base = str(known)
        elif str(known) != where:
            if not removal.at_work(ledger.db, number).nothing:
                raise BadInput(f"site.{site.name} is {where}, but something of ours is at work in {known}",
                               f"set it back to {known}, and `icp site drain {site.name} --wait` first")  # fmt: skip
            removal.forget_spool(ledger, number, site.name)
            ledger.set_meta(f"root:{site.name}", where)
    root = Path(base)
    spool = SpoolPlace.install(root, ledger.uuid) if site.host is None else SpoolPlace.away(root, ledger.uuid, site.python)
    return Place(site, number, spool, system(site.scheduler))

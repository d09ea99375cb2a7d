"""What `site list` and `site show` read: a site's state, its pilots and their nodes (hides their joins)."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from icp.ledger.views import SiteView, sites
from icp.states import Pilot

__all__ = ["PilotLine", "SiteStory", "SoftwareLine", "site_story"]

SHOWN = 10
"""Pilots that ended, of which the story tells."""


@dataclass(frozen=True, slots=True)
class PilotLine:
    """One pilot."""

    pilot: str
    state: str
    batch: str | None
    """The batch system's id."""
    said: str | None
    """The batch system's own word and reason, or why it ended."""
    host: str | None
    cpus: int
    made: float
    started: float | None
    ended: float | None
    core_hours: float | None
    """What the batch system's accounting says that it used."""


@dataclass(frozen=True, slots=True)
class SoftwareLine:
    """What an agent found out about one environment: ``had`` is how it comes by it, or else ``why`` it cannot."""

    software: str
    host: str | None
    had: dict[str, Any]
    why: str | None
    vain: list[list[str]]
    """[way, what it lacks] of those that were tried before."""


@dataclass(frozen=True, slots=True)
class SiteStory:
    """All that the ledger knows of a site."""

    view: SiteView
    number: int
    login: str | None
    """The login node that answered last."""
    tried: float | None
    failures: int
    hold: float
    """No pilot before this moment."""
    young: int
    """Pilots in a row that ended without an agent."""
    pilots: list[PilotLine]
    """All that live, and the last ones that ended."""
    ok: int
    """Tasks whose accepted attempt ran there."""
    core_hours: float | None
    """What accounting says that all pilots used; None where it said nothing yet."""
    unaccounted: int
    """Pilots that were submitted and ended, of which accounting said nothing."""
    software: list[SoftwareLine] = field(default_factory=list)
    """Of each environment what the last agent found."""


def site_story(db: sqlite3.Connection, name: str) -> SiteStory | None:
    """A site that was not removed; None where the ledger has not met it."""
    row = db.execute("SELECT id, host, tried, failures, hold, young FROM site WHERE name = ? AND gone IS NULL", (name,)).fetchone()
    if row is None:
        return None
    view = next(one for one in sites(db) if one.name == name)
    query = (
        "SELECT p.id, p.key, p.state, p.batch, p.word, p.said, p.reason, p.cpus, p.made, p.started, p.ended, p.core_seconds FROM pilot p "
        "WHERE p.site = ? AND p.live = {} ORDER BY p.made DESC LIMIT {}"
    )
    rows = db.execute(query.format(1, -1), (row[0],)).fetchall() + db.execute(query.format(0, SHOWN), (row[0],)).fetchall()
    ok = db.execute("SELECT coalesce(sum(n), 0) FROM tally WHERE site = ? AND state = 4", (row[0],)).fetchone()[0]
    used, unaccounted = db.execute(
        "SELECT sum(core_seconds) / 3600, count(*) FILTER (WHERE live = 0 AND batch IS NOT NULL AND core_seconds IS NULL) FROM pilot WHERE site = ?",
        (row[0],),
    ).fetchone()
    return SiteStory(view, row[0], row[1], row[2], row[3], row[4], row[5], [_pilot(db, one) for one in rows], int(ok), used, unaccounted,
                     _software(db, row[0]))  # fmt: skip


def _software(db: sqlite3.Connection, site: int) -> list[SoftwareLine]:
    rows = db.execute(
        "SELECT a.software, n.text FROM agent a INDEXED BY agent_site LEFT JOIN name n ON n.id = a.host WHERE a.site = ? AND a.software IS NOT NULL "
        "ORDER BY a.id DESC LIMIT 20",
        (site,),
    ).fetchall()
    found: dict[str, SoftwareLine] = {}
    for said, host in rows:
        for name, one in json.loads(said).items():
            found.setdefault(name, SoftwareLine(name, host, one.get("had") or {}, one.get("why"), one.get("vain") or []))
    return [found[name] for name in sorted(found)]


_Row = tuple[int, bytes, int, "str | None", "str | None", "str | None", "str | None", int, float, "float | None", "float | None", "float | None"]


def _pilot(db: sqlite3.Connection, row: _Row) -> PilotLine:
    number, key, state, batch, word, said, reason, cpus, made, started, ended, used = row
    node = db.execute("SELECT n.text, a.cpus FROM agent a JOIN name n ON n.id = a.host WHERE a.pilot = ? ORDER BY a.id DESC LIMIT 1", (number,)).fetchone()
    live = state <= Pilot.DRAINING
    words = (f"{word}: {said}" if word and said else said or word) if live else reason
    hours = None if used is None else used / 3600
    return PilotLine(
        key.hex(), Pilot(state).name.lower(), batch, words, node[0] if node else None, cpus or (node[1] if node else 0), made, started, ended, hours
    )

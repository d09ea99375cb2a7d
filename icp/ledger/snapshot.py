"""The planner's view of the ledger, from kept counts and live rows only (hides which tables it is read from)."""

from __future__ import annotations

import json
import sqlite3
import statistics
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from icp.ledger.definitions import Definitions
from icp.model.need import Need, parse
from icp.model.plan import AgentView, ClassView, DatasetView, DefView, PilotSpec, PilotView, SiteView, Snapshot
from icp.states import Agent, Dataset, Pilot

__all__ = ["SiteConfig", "median_seconds", "read_site", "read_snapshot"]

SiteConfig = tuple[str, Mapping[str, Any], PilotSpec]
"""(name, attributes, what a pilot is asked to be) of a configured site."""


def median_seconds(db: sqlite3.Connection, task_defs: Iterable[int]) -> dict[int, float]:
    """Median wall time, seconds, of the last accepted attempts of each definition that has any."""
    known: dict[int, float] = {}
    for task_def in task_defs:
        row = db.execute("SELECT recent FROM runtime WHERE task_def = ?", (task_def,)).fetchone()
        if row is not None:
            known[task_def] = statistics.median(json.loads(row[0])) / 1000
    return known


def read_site(db: sqlite3.Connection, config: SiteConfig, now: float, *, busy: bool = False) -> SiteView | None:
    """One site with its live agents and pilots; None while the ledger has never met it."""
    name, attributes, spec = config
    row = db.execute("SELECT id, zone, unreachable, hold, paused, observed, remote, answered, login FROM site WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    site, observed = int(row[0]), float(row[5])
    # an agent's end is by its own clock, which the login node's stands for
    remote = now if row[6] is None else float(row[6]) + max(0.0, now - float(row[7] or now))
    agents = tuple(
        _agent(one, remote, bool(one[8]))
        for one in db.execute(
            f"SELECT {_AGENT}, p.stopping > 0 OR p.state = ? OR p.card IS NOT NULL "
            "FROM agent a JOIN pilot p ON p.id = a.pilot WHERE a.site = ? AND a.live = 1 AND a.state IN (0, 1) AND a.cpus > 0",
            (int(Pilot.DRAINING), site),
        ).fetchall()
    )
    pilots = tuple(
        PilotView(
            pending=not one[5] and one[0] <= Pilot.PENDING, starting=not one[5] and one[0] == Pilot.RUNNING, waited=max(0.0, observed - one[1]),
            stopping=bool(one[2]), never=one[3], said=one[4],
        )
        for one in db.execute(
            "SELECT state, since, stopping, never, CASE word WHEN 'pending' THEN said END, "
            "EXISTS (SELECT 1 FROM agent a WHERE a.pilot = pilot.id) FROM pilot WHERE site = ? AND live = 1",
            (site,),
        ).fetchall()
    )  # fmt: skip
    last = db.execute(f"SELECT {_AGENT} FROM agent a WHERE site = ? AND cpus > 0 ORDER BY id DESC LIMIT 1", (site,)).fetchone()
    recent = db.execute("SELECT count(*) FROM pilot INDEXED BY pilot_made WHERE site = ? AND made > ?", (site, now - 3600)).fetchone()[0]
    return SiteView(
        id=site, name=name, zone=int(row[1]), attributes=attributes, spec=spec, agents=agents, pilots=pilots,
        reachable=row[2] is None, login=row[8] is not None,
        paused=row[4], hold=float(row[3]), busy=busy, recent=int(recent), node=None if last is None else _agent(last, remote),
    )  # fmt: skip


_AGENT = "a.cpus, a.memory, a.disk, a.gpus, a.attrs, a.until, a.state, (SELECT text FROM name WHERE id = a.host)"


def _agent(row: tuple[Any, ...], remote: float, leaving: bool = False) -> AgentView:
    left = None if row[5] is None else max(0.0, row[5] - remote)
    return AgentView(row[0], row[1], row[2], row[3], json.loads(row[4]), left, row[6] == Agent.SUSPECT, leaving, row[7])


def read_snapshot(db: sqlite3.Connection, definitions: Definitions, configs: Iterable[SiteConfig], now: float, busy: Collection[str] = ()) -> Snapshot:
    """Datasets at work, their classes of live tasks, and the sites; ``busy``: the names of those that can be given nothing now."""
    datasets = []
    defs: dict[int, DefView] = {}
    active = db.execute(
        "SELECT id, priority, jobs, released, grouped, max_running, sites FROM dataset INDEXED BY dataset_active "
        "WHERE deleted IS NULL AND state IN (0, 1) AND state = ?",
        (int(Dataset.PROCESSING),),
    ).fetchall()
    for number, priority, _, released, grouped, most, only in active:
        unreleased = max(0, grouped - released)
        again = db.execute("SELECT coalesce(sum(last - first + 1), 0) FROM range WHERE dataset = ? AND action = 'release'", (number,)).fetchone()
        names = None if only is None else frozenset(json.loads(only))
        datasets.append(DatasetView(number, priority, unreleased + int(again[0]), most, names))
        graph = definitions.graph(number)
        medians = median_seconds(db, graph.defs)
        for one in graph.defs.values():
            defs[one.id] = DefView(one.id, number, one.idx, not one.final and not one.parents, medians.get(one.id))
    rows = db.execute("SELECT dataset, task_def, need, zone, site, state, n FROM live_class WHERE n > 0").fetchall()
    # what a suspended dataset still has at a site takes room there too
    for row in rows:
        if row[1] not in defs:
            one = definitions.task_def(row[1])
            defs[row[1]] = DefView(one.id, one.dataset, one.idx, False, median_seconds(db, [one.id]).get(one.id))
    needs = read_needs(db, {row[2] for row in rows if row[2]})
    classes = tuple(ClassView(*row) for row in rows)
    sites = tuple(view for view in (read_site(db, config, now, busy=config[0] in busy) for config in configs) if view is not None)
    return Snapshot(tuple(datasets), defs, needs, classes, sites)


def read_needs(db: sqlite3.Connection, ids: Iterable[int]) -> dict[int, Need]:
    """Interned needs by number."""
    return {one: parse(db.execute("SELECT body FROM need WHERE id = ?", (one,)).fetchone()[0]) for one in ids}

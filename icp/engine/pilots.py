"""Pilots as orders and questions: what an exchange carries to submit, list and end them (hides scripts and batch systems)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from icp.backends.base import Unknown
from icp.backends.batch import BatchSystem
from icp.backends.pilot_script import Body, pilot_body
from icp.backends.spool_client import SpoolPlace, order
from icp.config import WALLTIME, Site
from icp.ledger.pilots import Ending
from icp.model.batch import Known, NotSubmitted, Submitted, Unclear, Wanted, batch_name
from icp.model.exchange import Answer
from icp.model.need import Need

__all__ = ["end_order", "meaning", "sized", "states", "submit_order", "wanted"]

SHOWS = 90
"""Seconds within which a card shows on a worker: listings of NFS are up to a minute old."""
EVICTED = 18
"""Seconds from a SIGTERM to the end of tasks where what they did has still to be packed."""
HEARTBEAT = 30
"""Seconds between two signs of life of an agent that has nothing else to say."""


def wanted(site: Site, place: SpoolPlace, ledger: str, pilot: str) -> Wanted:
    """The batch job of one pilot."""
    spec = site.pilot
    return Wanted(
        batch_name(ledger, pilot), f"{place.root}/pilots/{pilot}", nodes=spec.nodes, cpus=spec.cpus, memory=spec.memory, gpus=spec.gpus, disk=spec.disk,
        walltime=spec.walltime or WALLTIME, partition=spec.partition, account=spec.account, qos=spec.qos, constraint=spec.constraint,
        program=None if site.shared else str(place.program), options=site.options,
    )  # fmt: skip


def sized(site: Site, need: Need, seconds: int) -> Site:
    """The site as its batch job for one card sees it: it asks for what that needs, and no more."""
    spec = replace(site.pilot, cpus=max(1, need.cpus), memory=need.memory, disk=need.disk, gpus=need.gpus, nodes=1, walltime=seconds)
    return replace(site, pilot=spec)


def submit_order(site: Site, place: SpoolPlace, batch: BatchSystem, ledger: str, pilot: str, card: str | None = None) -> bytes:
    """The order that submits a pilot; ``card``: the name of the one card that it is there for. BadInput where the site's configuration cannot be put
    into a script."""
    captured = batch.render(wanted(site, place, ledger, pilot))
    bagged = card is not None and not site.shared
    body = Body(
        spool="bag" if bagged else str(place.root), program=place.program.name if bagged else str(place.program), pilot=pilot, bagged=bagged,
        command=("bagged",) if bagged else ("run",),
        python=place.python, modules=site.modules, setup=site.setup, env=site.env,
        scratch=site.scratch, pythons=site.pythons,
    )  # fmt: skip
    files = {**captured.files, batch.body: pilot_body(body), "pilot.json": json.dumps(_told(site, ledger, pilot, card), sort_keys=True)}
    meta: dict[str, Any] = {"pilot": pilot, "argv": list(captured.argv), **({"bag": card} if bagged else {})}
    return order("submit", meta, json.dumps({"files": files}).encode())


def _told(site: Site, ledger: str, pilot: str, card: str | None) -> dict[str, Any]:
    """What the agents of a pilot are told, as ``pilot.json``."""
    spec = site.pilot
    only: dict[str, Any] = {} if card is None else {"only": [card]}
    if not site.shared:
        only["grace"] = EVICTED
    only["cache"] = {"size": site.cache.size, "root": site.cache.root}
    only["transfer"] = dict(site.transfer)
    if site.software:
        only["software"] = dict(site.software)
    if site.shipped:
        only["shipped"] = [sha256 for _, sha256 in site.shipped]
    return {
        **only, "pilot": pilot, "ledger": ledger, "idle": spec.idle if card is None else SHOWS,
        "end": None, "walltime": spec.walltime, "scratch": None, "attrs": dict(site.attributes),
        "cpus": spec.cpus, "memory": spec.memory, "disk": spec.disk, "gpus": spec.gpus, "heartbeat": HEARTBEAT,
    }  # fmt: skip


def end_order(site: Site, batch: BatchSystem, ledger: str, ending: Ending) -> bytes:
    """The order that ends a pilot, or what is one too many of it."""
    if ending.drain:
        return order("drain", {"pilot": ending.pilot})
    argv = batch.cancel(batch_name(ledger, ending.pilot), ending.jobs, site.options)
    return order("kill", {"pilot": ending.pilot, "argv": argv})


def meaning(batch: BatchSystem, site: Site, receipt: Mapping[str, Any]) -> Submitted | NotSubmitted | Unclear:
    """What the answer to a submit means."""
    code = receipt.get("rc")
    return batch.receipt(code if isinstance(code, int) else None, str(receipt.get("out") or ""), str(receipt.get("err") or ""), site.options)


def states(batch: BatchSystem, ledger: str, answer: Answer, asked: Sequence[Sequence[str]], left: Mapping[str, str]) -> dict[str, Known] | Unknown:
    """pilot (hex) -> what the batch system says; Unknown where not all that was asked was answered."""
    if len(answer.batch) < len(asked):
        return Unknown("the answer broke off")
    return batch.states(ledger, answer.batch, left)

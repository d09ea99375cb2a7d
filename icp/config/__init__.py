"""Where things are, and what config.toml says of sites and policy (hides XDG, ICP_HOME and defaults)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icp.config.file import add_table, remove_table, set_value, table_text, values
from icp.config.keys import EVENTS, KEYS, NAME, Key, explain, find_key
from icp.errors import BadInput
from icp.model.plan import PilotSpec, Policy
from icp.places import Places, check_host, places

__all__ = [
    "KEYS", "NAME", "CacheSpec", "Config", "Key", "Notify", "Places", "Site", "Ssh", "add_table", "explain", "find_key", "load", "places", "remove_table",
    "set_value", "table_text", "values",
]  # fmt: skip

WALLTIME = 7200
"""Seconds of a pilot that says nothing, where a batch system wants to know: a task that says nothing has an hour."""

CARRIERS = ("condor",)
"""Batch systems that bring files to a worker and back."""


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """The cache of fetched files at a site: bytes, and where (None: in the spool)."""

    size: int = 20 * 10**9
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """One allocation, as configured."""

    name: str
    zone: str
    root: Path | None
    """None: in the state directory of this machine."""
    attributes: Mapping[str, Any]
    system: Mapping[str, Any]
    env: Mapping[str, str]
    scratch: str | None
    pilot: PilotSpec
    host: str | None = None
    """None: this machine."""
    scheduler: str = "none"
    python: str | None = None
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    accounting: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Parsl's own options of the provider."""
    shared: bool = True
    """Whether workers see the spool."""
    cache: CacheSpec = CacheSpec()
    transfer: Mapping[str, dict[str, list[str]]] = field(default_factory=dict)
    """scheme -> ``get`` and ``put``: commands that fetch and store by URL"""
    software: Mapping[str, Any] = field(default_factory=dict)
    """How its nodes come by software, as agents are told: a program that is shipped is {"sha256"}."""
    pythons: tuple[tuple[str, str], ...] = ()
    """(what ``uname -m`` says, sha256) of Pythons for nodes that have none."""
    shipped: tuple[tuple[str, str], ...] = ()
    """(URL, sha256) of all that must be in its spool before a pilot can use it."""


@dataclass(frozen=True, slots=True)
class Ssh:
    """How hosts are reached; times in seconds."""

    config: Path | None = None
    connect_timeout: int = 15
    persist: int = 600


@dataclass(frozen=True, slots=True)
class Notify:
    """How a person is told of events; ``timeout`` in seconds."""

    command: str | None = None
    events: tuple[str, ...] = EVENTS
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Config:
    places: Places
    ledger: Path
    sites: Mapping[str, Site]
    policy: Policy
    pause_local: float
    pause: float
    ssh: Ssh = Ssh()
    notify: Notify = Notify()


def load(environ: Mapping[str, str] | None = None) -> Config:
    """The configuration; where no site is configured, this machine is the one site, named ``local``."""
    where = places(environ)
    said = values(where)
    names = list(dict.fromkeys(path.split(".")[1] for path in said if path.startswith("site."))) or ["local"]
    transfer = _table(said, "transfer.")
    sites = {name: _site(where, name, _table(said, f"site.{name}."), transfer) for name in names}
    _apart(where, sites)
    ledger = said.get("ledger.path", where.ledger)
    check_host(where, ledger)
    ssh = _table(said, "ssh.")
    return Config(
        places=where,
        ledger=ledger,
        sites=sites,
        policy=Policy(**_table(said, "policy.")),
        pause_local=float(said.get("run.pause_local", 1.0)),
        pause=float(said.get("run.pause", 30.0)),
        ssh=Ssh(ssh.get("config"), max(1, round(ssh.get("connect_timeout", 15))), max(1, int(ssh.get("persist", 600)))),
        notify=Notify(**_table(said, "notify.")),
    )


def _table(said: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {path[len(prefix) :]: value for path, value in said.items() if path.startswith(prefix)}


def _commands(*tables: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Commands by scheme; those of a later table count."""
    found: dict[str, dict[str, list[str]]] = {}
    for path, command in (pair for table in tables for pair in table.items()):
        scheme, _, what = path.partition(".")
        found.setdefault(scheme.lower(), {})[what] = list(command)
    return found


def _site(where: Places, name: str, own: Mapping[str, Any], transfer: Mapping[str, Any]) -> Site:
    host, scheduler = own.get("host"), own.get("scheduler", "none")
    root = own.get("root")
    if root is not None and host is None:
        root = str(Path(root).expanduser())
    if host is not None and root is None:
        raise BadInput(
            f"{where.config}: site.{name}.root is missing: expected a directory at {host} that its workers see too",
            f"`icp site add {name} --host {host}` finds one, or `icp config set site.{name}.root /home/me/.icp/{name}`",
        )
    if root is not None and not root.startswith("/"):
        raise BadInput(f"{where.config}: site.{name}.root = {root!r}: expected an absolute path at the site")
    pilot = {key: value for key, value in _table(own, "pilot.").items() if not key.startswith("options.")}
    shared = bool(own.get("shared", True))
    if not shared and scheduler not in CARRIERS:
        raise BadInput(
            f"{where.config}: site.{name}.shared = false: of the batch systems only {' and '.join(CARRIERS)} can carry the files of jobs, not {scheduler}",
            f"`icp config set site.{name}.root DIRECTORY` to one that workers see too, and remove site.{name}.shared",
        )
    if not shared and own.get("mode") == "pilots":
        raise BadInput(f"{where.config}: site.{name}.mode = \"pilots\" needs a spool that workers see, and site.{name}.shared is false", "remove site.*.mode")
    direct = own.get("mode") == "direct" or not shared
    if scheduler == "none" and host is None:
        pilot.setdefault("cpus", len(os.sched_getaffinity(0)))
    if scheduler != "none" and not direct:
        pilot.setdefault("walltime", WALLTIME)
    scratch = own.get("scratch")
    software, shipped = _software(where, name, _table(own, "software."))
    pythons = [text.split() for text in own.get("pythons", ())]
    return Site(
        name=name,
        zone=own.get("zone", host or name),
        root=None if root is None else Path(root),
        attributes=_table(own, "attributes."),
        system=_table(own, "system."),
        env=_table(own, "env."),
        scratch=str(Path(scratch).expanduser()) if scratch is not None and host is None and scratch.startswith("~") else scratch,
        pilot=PilotSpec(**pilot, direct=direct, one_host=scheduler == "none"),
        host=host,
        scheduler=scheduler,
        python=own.get("python"),
        modules=own.get("modules", ()),
        setup=own.get("setup", ()),
        accounting=own.get("accounting"),
        options=_table(own, "pilot.options."),
        shared=shared,
        cache=CacheSpec(**_table(own, "cache.")),
        transfer=_commands(transfer, _table(own, "transfer.")),
        software=software,
        pythons=tuple((machine, sha256) for machine, _, sha256 in pythons),
        shipped=(*shipped, *((url, sha256) for _, url, sha256 in pythons)),
    )


def _software(where: Places, name: str, own: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What agents are told, and (URL, sha256) of what is shipped for it."""
    told: dict[str, Any] = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items() if not key.endswith("_sha256")}
    shipped = []
    for tool in ("cvmfsexec", "parrot_run"):
        source, digest, key = own.get(tool), own.get(f"{tool}_sha256"), f"site.{name}.software.{tool}"
        if source is not None and source.startswith("/") and digest is None:
            continue
        if source is not None and "://" in source and digest is not None:
            told[tool] = {"sha256": digest}
            shipped.append((source, digest))
        elif source is not None or digest is not None:
            raise BadInput(f"{where.config}: {key} = {source!r}: expected an absolute path at the site, or a URL and {key}_sha256")
    return told, shipped


def _apart(where: Places, sites: Mapping[str, Site]) -> None:
    """Two sites never share one spool."""
    taken: dict[tuple[str | None, Path | None], str] = {}
    for one in sites.values():
        other = taken.setdefault((one.host, one.root), one.name)
        if other != one.name:
            raise BadInput(
                f"{where.config}: sites {other} and {one.name} have the same root, {one.root or 'the state directory'}: each needs a directory of its own",
                f"`icp config set site.{one.name}.root DIRECTORY`",
            )

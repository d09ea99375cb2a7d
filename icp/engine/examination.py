"""What a site is for work there: each finding with what it means (hides where each is found out, and when).

Nothing is submitted. What only a worker can tell comes from the last check of the site, and says so.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from icp.backends.base import Result, Unknown
from icp.backends.openssh import OpenSSH
from icp.backends.pilot_program import PilotProgram
from icp.backends.spool_client import SpoolPlace
from icp.backends.survey import Survey, look
from icp.config import Config, Site
from icp.engine.canary import HAS, SKEW, last_check
from icp.engine.lines import transport
from icp.errors import BadInput

__all__ = ["LITTLE", "Finding", "examine"]

LITTLE = 2 * 10**9
"""Bytes that a spool should find free, and the inodes: cards, facts and outputs that are on their way."""
FEW = 20_000
PURGE = 30.0
"""Days for which centres keep untouched scratch at the least, as a rule."""
_FULL = 0.9
"""Share of a quota from which on it is to be told."""
SHARED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "panfs", "afs", "cifs", "fuse.sshfs", "glusterfs", "9p")
"""Beginnings of the names of file systems that several hosts see."""
_AWAKE = 90.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a doctor's. ``ok``: None where it is nobody's fault and worth knowing; ``at``: when it was found, if not now."""

    name: str
    found: str
    means: str
    ok: bool | None = True
    at: float | None = None


def examine(config: Config, site: Site, known: str | None = None) -> list[Finding]:
    """All that can be found out of a site. ``known``: the login node that the ledger spoke to last."""
    way = transport(config, site)
    if isinstance(way, OpenSSH):
        way.try_now()  # a person asks
    begun = time.monotonic()
    answer = way.run(["/bin/sh", "-c", "date +%s"], b"", 60)
    took = time.monotonic() - begun
    if isinstance(answer, Unknown):
        return [_unreached(site, way, answer.why), *_checked(config, site)]
    said: list[Finding] = []
    if site.host is not None:
        said.append(Finding("reach", f"{site.host} answers in {took:.1f} s", "a tick needs one such conversation"))
    place = _place(config, site)
    if isinstance(place, Finding):
        return [*said, place]
    try:
        seen = look(way, scheduler=None if site.scheduler != "none" else "none", root=str(site.root) if site.root else None)
    except BadInput as error:
        seen = Unknown(error.message)
    named = [(one.name, one.path) for one in seen.disks if one.name not in ("home", "root")] if not isinstance(seen, Unknown) else []
    scratch = site.scratch or next((path for _, path in named), None)
    words = ["checkup", "--root", str(place.program.parent.parent), "--software", json.dumps(site.software, sort_keys=True)]
    words += ["--scratch", scratch] if scratch else []
    sent = time.time()
    outcome = PilotProgram(way, place, site.env).run(words, _AWAKE)
    back = time.time()
    if isinstance(outcome, Result) and outcome.code == 0:
        told = json.loads(outcome.out)
        said += _host(site, told, sent, back, known, _seen(config, site))
    else:
        why = outcome.why if isinstance(outcome, Unknown) else (outcome.err.decode("utf-8", "replace").strip().splitlines() or ["no answer"])[-1]
        said.append(Finding("program", f"the pilot's program does not run there: {why}", f"nothing can run there: `icp site check {site.name}`", ok=False))
    if scratch is None:
        said.append(Finding("scratch", "none is set, and no variable of the login shell names one", "tasks work in $TMPDIR or /tmp of their node"))
    elif site.scratch is None:
        where = ", ".join(f"${name} is {path}" for name, path in named)
        means = f"tasks work in $TMPDIR or /tmp of their node; if that is small, set site.{site.name}.scratch"
        said.append(Finding("scratch", f"none is set, and {where}", means, None))
    said += _batch(site, seen)
    return [*said, *_checked(config, site)]


def _unreached(site: Site, way: Any, why: str) -> Finding:
    if isinstance(way, OpenSSH) and way.needs_login:
        return Finding("reach", why, f"ticks leave it alone until `icp login {site.name}`; what is there goes on, and nothing of it fails", ok=False)
    return Finding("reach", why, "it gets nothing new until it answers; what is there goes on", ok=False)


def _place(config: Config, site: Site) -> SpoolPlace | Finding:
    root = site.root or config.places.state / "spool"
    try:
        return SpoolPlace.away(root, "doctor", site.python) if site.host is not None else SpoolPlace.install(root, "doctor")
    except OSError as error:
        return Finding("spool", f"{error.filename}: {error.strerror}", "the program of pilots cannot be put there: make room, or set another root", ok=False)


# -- what a host says of itself -------------------------------------------------------------------------------------


def _host(site: Site, told: Mapping[str, Any], sent: float, back: float, known: str | None, seen: Collection[str]) -> Iterable[Finding]:
    if site.host is not None:
        yield _nodes(site, str(told["host"]), known)
        yield _clock(float(told["now"]), sent, back)
    yield Finding("python", f"{told['python']} ({told['executable']})", "exchanges run on it at the login node; pilots look for their own on the worker")
    for disk in told["disks"]:
        yield from _disk(site, disk, checked="sees" in seen)
    proxies = f" (proxies are set: {', '.join(told['proxies'])})" if told["proxies"] else ""
    for name, why in told["has"].items():
        if name in seen:
            continue  # the worker's counts
        found = (why or HAS[name]) + (proxies if name == "egress" else "")
        yield Finding(name, f"at the login node: {found}", _meaning(name, well=not why), None if why else True)
    for way, lacks in told["ways"] if "software" not in seen else ():
        text = lacks.replace("site.NAME", f"site.{site.name}") or "can be tried"
        yield Finding(_CALLED.get(way, way), f"at the login node: {text}", _meaning(way, well=not lacks), None if lacks else True)


_WANTED = {
    "namespaces": ("cvmfsexec and bwrap can give tasks /cvmfs or a copy of it", "of the ways to software, cvmfsexec and bwrap are closed"),
    "fuse": ("cvmfsexec can mount CVMFS for tasks", "cvmfsexec cannot mount CVMFS"),
    "containers": ("steps may run them by themselves", "steps that run them would fail"),
    "mounted": ("tasks use /cvmfs as it is", "tasks get /cvmfs another way, or have tarballs and copies"),
    "cvmfsexec": ("tasks can be given /cvmfs, mounted for them alone", "it gives no task /cvmfs"),
    "parrot": ("tasks can be given /cvmfs by it", "it gives no task /cvmfs"),
    "bwrap": ("a copy can stand where /cvmfs would", "it shows no copies"),
    "proot": ("a copy can stand where /cvmfs would", "it shows no copies"),
    "parrot-copy": ("a copy can stand where /cvmfs would", "it shows no copies"),
    "tarball": ("software from tarballs is unpacked there", "software from tarballs cannot be had"),
    "egress": ("what is fetched by URL can come from there", "inputs and software by URL have to travel through this machine"),
}
"""What it means that a host has something, and that it lacks it."""
_CALLED = {"mounted": "cvmfs", "tarball": "tarballs"}
"""Ways to software (docs/software.md) by the names under which people look for them."""


def _meaning(name: str, *, well: bool) -> str:
    return _WANTED.get(name, ("a way to software", "no way to software"))[0 if well else 1]


def _nodes(site: Site, host: str, known: str | None) -> Finding:
    addresses = _addresses(site)
    if len(addresses) < 2 and known in (None, host):
        return Finding("login nodes", f"{host} answers", "one login node: what it says of its own processes counts")
    other = f", {known} did before" if known not in (None, host) else ""
    many = f"{len(addresses)} addresses behind one name; " if len(addresses) > 1 else ""
    means = "several login nodes: exchanges hold a lock in the spool, which must work between them (see locks); shared connections stay with one"
    if site.scheduler == "none":
        return Finding("login nodes", f"{many}{host} answers now{other}",
                       "pilots run on the host itself, and another one knows nothing of them: give one node's own name as host", ok=False)  # fmt: skip
    return Finding("login nodes", f"{many}{host} answers now{other}", means, None)


def _addresses(site: Site) -> list[str]:
    """Of the name that ssh would connect to; none where a proxy or nobody resolves it."""
    try:
        done = subprocess.run(["ssh", "-G", "--", str(site.host)], capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
        name = next((line.split()[1] for line in done.stdout.splitlines() if line.startswith("hostname ")), "")
        return sorted({str(one[4][0]) for one in socket.getaddrinfo(name, 22, family=socket.AF_INET, type=socket.SOCK_STREAM)}) if name else []
    except (OSError, subprocess.SubprocessError, IndexError):
        return []


def _clock(remote: float, sent: float, back: float) -> Finding:
    skew, error = remote - (sent + back) / 2, (back - sent) / 2
    sure = max(0.0, abs(skew) - error)
    way = "ahead of" if skew > 0 else "behind"
    found = f"the login node's clock is {abs(skew):.1f} s {way} this machine's (± {error:.1f} s)"
    if sure < SKEW:
        return Finding("clock", found, "no time of one is ever compared with the other's, but logs are easier to read so")
    return Finding("clock", found, "results are safe, as times are never compared between hosts; tickets and certificates may not be", None)


def _disk(site: Site, disk: Mapping[str, Any], *, checked: bool) -> Iterable[Finding]:
    name, kind, path = str(disk["name"]), str(disk["kind"]), str(disk["path"])
    free, inodes = disk.get("free"), disk.get("inodes")
    spool = name == "root"
    parts = [f"{free / 1e9:.1f} GB free" if isinstance(free, int) else "", f"{inodes:,} inodes free" if inodes else "", kind]
    found = f"{path}: {', '.join(one for one in parts if one)}"
    shared = kind.startswith(SHARED)
    if disk["why"]:
        yield Finding(name, f"{found}; a small file cannot be written: {disk['why']}",
                      "the spool cannot work there: no card is taken, and nothing is lost; make room or ask for quota" if spool
                      else "what wants to write there fails", ok=not spool and None)  # fmt: skip
    elif spool:
        little = (isinstance(free, int) and free < LITTLE) or (bool(inodes) and int(inodes or 0) < FEW)
        means = "the spool: room for outputs until they are home" if not little else "too little for a spool: outputs wait here until they are home"
        yield Finding(name, found, means, not little)
        if site.host is not None and site.scheduler != "none" and site.shared and not checked:
            yield Finding("shared", f"{path} is on {kind or 'an unknown file system'}",
                          "of a kind that workers can see too" if shared else "often a node's own: only `icp site check` shows whether workers see it",
                          True if shared else None)  # fmt: skip
    else:
        means = {"home": "small files and programs; quotas are tight there as a rule", "tmp": "commands at the login node work there",
                 "scratch": "the work of tasks, if workers have the same place"}[name]  # fmt: skip
        yield Finding(name, found, means, None if isinstance(free, int) and free < LITTLE else True)
    yield from _purge(name, path, disk.get("oldest"), shared or name == "scratch")


def _purge(name: str, path: str, oldest: float | None, likely: bool) -> Iterable[Finding]:
    if name not in ("root", "scratch") or not likely:
        return
    if oldest is not None and oldest > PURGE:
        yield Finding("purge", f"the oldest file of yours in {path} was not touched for {oldest:.0f} days", "no purge of what is younger is to be seen")
    elif any(word in path.lower() for word in ("scratch", "work", "tmp")):
        yield Finding("purge", f"no file of yours in {path} is older than {oldest or 0:.0f} days",
                      "a purge is possible, and nothing here shows when: outputs come home at once, only what waits for another task stays", None)  # fmt: skip


def _egress(told: Mapping[str, Any]) -> Finding:
    reached = [name for name, why in told["egress"].items() if not why]
    proxies = f"; proxies are set: {', '.join(told['proxies'])}" if told["proxies"] else ""
    if reached:
        return Finding("egress", f"the login node reaches {', '.join(reached)}{proxies}", "what is fetched by URL can come from there; workers may have less")
    why = next(iter(told["egress"].values()), "")
    return Finding("egress", f"the login node reaches nothing outside ({why}){proxies}", "inputs and software by URL have to travel through this machine", None)


# -- the batch system -----------------------------------------------------------------------------------------------


def _batch(site: Site, seen: Survey | Unknown) -> Iterable[Finding]:
    if isinstance(seen, Unknown):
        yield Finding("scheduler", f"it could not be looked at: {seen.why}", "nothing is known of it now", None)
        return
    for text in seen.quotas:
        match = re.search(r"([0-9.]+) of ([0-9.]+)", text)
        full = match is not None and float(match[1]) > _FULL * float(match[2])
        yield Finding("quota", text, "a full quota stops the spool, and nothing is lost by that" + (": make room" if full else ""), None if full else True)
    if site.scheduler == "none":
        yield Finding("scheduler", "none is used", "pilots run on the host itself" + ("; is that allowed at a login node?" if seen.scheduler != "none" else ""),
                      None if seen.scheduler != "none" and site.host is not None else True)  # fmt: skip
        return
    if seen.scheduler != site.scheduler:
        found = "none" if seen.scheduler == "none" else seen.scheduler
        yield Finding("scheduler", f"{found} is found there, and the configuration says {site.scheduler}", "pilots may not be submitted", None)
        return
    batch = seen.batch
    if batch.trouble:
        yield Finding("scheduler", f"{site.scheduler} {batch.version}: {batch.trouble}".replace(" :", ":"), "no pilot starts until it answers", ok=False)
        return
    yield Finding("scheduler", f"{site.scheduler} {batch.version} answers".replace("  ", " "), "pilots are submitted to it")
    charged = site.pilot.account or next((one.name for one in batch.accounts if one.default), None)
    if charged and batch.accounts:
        yield Finding("account", f"{charged} is charged", "pilots cost its core-hours")
    elif batch.need_account:
        yield Finding("account", "jobs must name an account", f"`icp config set site.{site.name}.pilot.account NAME`", ok=False)
    if site.accounting is False:
        yield Finding("accounting", "it is not asked, as configured", "a pilot that vanished is judged by what is in the queue alone", None)
    elif batch.accounting is False:
        yield Finding("accounting", "ended jobs cannot be asked about", "a pilot that vanished counts as ended only after some ticks; no core-hours", None)
    elif batch.accounting is None:
        yield Finding("accounting", "whether ended jobs can be asked about is not known", "the first pilots show it", None)
    else:
        yield Finding("accounting", "ended jobs can be asked about", "how pilots ended, and core-hours, are known")


# -- what only a worker can tell ------------------------------------------------------------------------------------

_MEANS = {
    "worker": "pilots run on it",
    "sees": "the spool works between login node and workers",
    "rename": "cards are claimed once",
    "exclusive": "pilots start once",
    "locks": "exchanges by several login nodes do not get in each other's way",
    "lag": "how late what one host wrote is seen by another: nothing is believed lost sooner",
    "clock": "times of workers and login node are never compared; large differences confuse logs alone",
    "platform": "which tarballs of software fit",
    "software": "a way to software, or why it is none",
    "carried": "files travel with the jobs",
}


def _seen(config: Config, site: Site) -> set[str]:
    """What the last check found out about a worker."""
    checked = last_check(config, site.name)
    return {str(one["name"]) for one in checked["steps"]} - {"egress"} if checked else set()


def _checked(config: Config, site: Site) -> Iterable[Finding]:
    """The worker's part of the last check."""
    checked = last_check(config, site.name)
    if checked is None:
        yield Finding("worker", "never checked", f"what workers are is not known: `icp site check {site.name}`", None)
        return
    for one in checked["steps"]:
        name, at = str(one["name"]), float(one.get("t") or checked["begun"])
        text = str(one["text"]).replace("site.NAME", f"site.{site.name}")
        if name == "software" and text.partition(": ")[0] in _WANTED:
            name, _, text = text.partition(": ")
        means = _meaning(name, well=bool(one["ok"])) if name in _WANTED else _MEANS.get(name)
        if means is not None:
            yield Finding(f"worker: {_CALLED.get(name, name)}", text, means, one["ok"], at)
    if checked["state"] == "failed":
        yield Finding("worker", f"the last check failed: {checked['why']}", checked.get("hint") or "pilots would not work", False, checked["ended"])
    elif checked["state"] == "running":
        yield Finding("worker", "the last check is under way", f"`icp site show {site.name}` has its end", None, checked["begun"])

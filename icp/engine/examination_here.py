"""What this machine is for an engine: ledger, SQLite, ssh and what ticks (hides where each is found out)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable

from icp.config import Config
from icp.engine.examination import FEW, LITTLE, Finding
from icp.errors import IcpError, NotFound
from icp.ledger import notices, views
from icp.ledger.datasets import something_to_do
from icp.ledger.db import file_system, is_network, open_ledger, sqlite_version

__all__ = ["examine_here"]

_RACE = (3, 51, 3)
"""SQLite's version in which two checkpoints at once cannot harm a write-ahead log any more."""


def examine_here(config: Config, ticks: str) -> list[Finding]:
    """All that can be found out here; ``ticks``: what ticks by itself, as the caller knows it ("" for nothing)."""
    version = ".".join(map(str, sys.version_info[:3]))
    said = [Finding("python", f"{version} ({sys.executable})", "icp itself runs on it")]
    said += _sqlite()
    said += _ledger(config)
    said += _ssh(config)
    said.append(Finding("ticks", ticks, "datasets go on while nobody is logged in") if ticks else
                Finding("ticks", "nothing ticks by itself", "datasets go on only while `icp run` runs: `icp cron install`", None))  # fmt: skip
    if config.notify.command is None:
        said.append(Finding("notify", "no command is set", "you are told of nothing unless you look: `icp config explain notify.command`", None))
    return said


def _sqlite() -> Iterable[Finding]:
    found = sqlite_version()
    text = "SQLite " + ".".join(map(str, found))
    if found < _RACE:
        yield Finding("sqlite", text, "before 3.51.3 two checkpoints at once can harm a log: only the engine makes any, so let no other program write")
    else:
        yield Finding("sqlite", text, "nothing is known against it")


def _ledger(config: Config) -> Iterable[Finding]:
    folder = config.ledger.parent
    while not folder.is_dir():
        folder = folder.parent
    kind = file_system(folder) or "an unknown file system"
    if is_network(folder):
        yield Finding("ledger", f"{config.ledger} is on {kind}",
                      "several hosts can have it, one at a time; ticks are slower: `icp config set ledger.path` may put it elsewhere", None)  # fmt: skip
    else:
        yield Finding("ledger", f"{config.ledger} is on {kind}", "a disk of this host: quick and safe, and only this host can use it")
    info = os.statvfs(folder)
    free, inodes = info.f_bavail * info.f_frsize, info.f_favail
    well = free >= LITTLE and not (info.f_files and inodes < FEW)
    yield Finding("disk", f"{free / 1e9:.1f} GB and {inodes:,} inodes free there",
                  "room for the ledger and its log" if well else "little: a full disk stops the engine, nothing is lost", well)  # fmt: skip
    try:
        ledger = open_ledger(config.ledger)
    except NotFound:
        yield Finding("ledger", "there is none yet", "`icp submit` makes it")
        return
    except IcpError as error:
        yield Finding("ledger", error.message, error.hint or "nothing works without it", ok=False)
        return
    try:
        last, now = views.engine(ledger.db).last_tick, time.time()
        if something_to_do(ledger.db) and (last is None or now - last > notices.GAP):
            age = "never" if last is None else f"{(now - last) / 3600:.1f} h ago"
            yield Finding("engine", f"the last tick was {age}", "datasets have work left and nobody ticks: `icp run`, or `icp cron install`", ok=False)
        waits = [one.name for one in views.sites(ledger.db) if one.login is not None]
        if waits:
            yield Finding("login", f"{', '.join(waits)} need a person's login", "`icp login`", ok=False)
        for one in notices.last(ledger.db, 20):
            if one.state == "failed":
                yield Finding("notify", f"notify.command failed: {one.said}", "you were not told of something: `icp cron show`", ok=False)
                break
    finally:
        ledger.close()


def _ssh(config: Config) -> Iterable[Finding]:
    if all(site.host is None for site in config.sites.values()):
        return
    program = shutil.which("ssh")
    if program is None:
        yield Finding("ssh", "there is no ssh here", "sites over ssh cannot be reached", ok=False)
        return
    try:
        said = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=10, check=False).stderr.strip()
    except (OSError, subprocess.SubprocessError) as error:
        said = str(error)
    agent = "a key agent answers for this session" if os.environ.get("SSH_AUTH_SOCK") else "there is no key agent in this session"
    yield Finding("ssh", f"{said.split(',')[0]}; {agent}", "cron has none: `icp cron install --dry-run` tries each site without one")

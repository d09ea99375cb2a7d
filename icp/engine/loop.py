"""Ticks in a loop or once, under the engine's lock (hides the lock file, pauses and how a loop ends)."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from icp.config import Config
from icp.engine.messenger import Messenger
from icp.engine.tick import Engine, Ticked
from icp.errors import Refused
from icp.ledger import cached, datasets, pilots
from icp.ledger.db import Ledger, open_ledger

__all__ = ["engine_lock", "run", "run_once"]

SHORTEST = 0.2
"""Seconds between two ticks at the least, unless there is more to do."""
PATIENCE = 5.0
"""Seconds that a tick waits for the slowest site."""
TRANSFER = 60.0
"""Seconds that one pass by itself gives to large files; the rest travels with the next."""


@contextlib.contextmanager
def engine_lock(config: Config) -> Iterator[None]:
    """Hold the lock that makes one process the engine of this ledger; Refused, with its holder, if another one is."""
    config.places.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(str(config.places.lock))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = _holder(config)
        raise Refused(f"another engine runs already{holder}", "it does the work; `icp status` shows it") from None
    try:
        yield
    finally:
        lock.release()


def _holder(config: Config) -> str:
    try:
        ledger = open_ledger(config.ledger)
        said = json.loads(ledger.meta("engine", "{}"))
        ledger.close()
        return f" (pid {said['pid']} on {said['host']})"
    except (OSError, ValueError, KeyError):
        return ""


def _engine(ledger: Ledger, config: Config, by: str | None = None) -> Engine:
    ledger.take_lease(time.time(), by)
    return Engine(ledger, config)


def run_once(ledger: Ledger, config: Config, by: str | None = None) -> Ticked:
    """One pass; ``by``: what calls again in some minutes, if that is no person. The caller holds the lock."""
    engine = _engine(ledger, config, by)
    try:
        ticked = engine.tick()
        if engine.provisions.busy:
            engine.provisions.wait()
            ticked = engine.tick()
        end = time.monotonic() + TRANSFER
        while engine.transfers.busy and time.monotonic() < end:
            engine.transfers.wait(max(0.0, end - time.monotonic()))
            engine.take_transfers(ticked)
        return ticked
    finally:
        engine.close()


def run(
    ledger: Ledger,
    config: Config,
    *,
    until: Callable[[Ledger], bool] | None = None,
    seen: Callable[[Ticked], None] | None = None,
    messenger: Messenger | None = None,
) -> None:
    """Tick until ``until`` says so (never without it); after each tick ``messenger`` tells. The caller holds the lock and handles Ctrl-C."""
    engine = _engine(ledger, config)

    def after(ticked: Ticked) -> None:
        if messenger is not None:
            ticked.untold += messenger.tell()
        if seen is not None:
            seen(ticked)

    try:
        _loop(engine, ledger, config, until, after)
    finally:
        engine.close()


def _loop(
    engine: Engine, ledger: Ledger, config: Config, until: Callable[[Ledger], bool] | None, seen: Callable[[Ticked], None]
) -> None:
    while True:
        begin = time.monotonic()
        ticked = engine.tick(PATIENCE)
        seen(ticked)
        if until is not None and until(ledger):
            if cached.left(ledger.db) or pilots.waiting(ledger.db):
                engine.hurry()
                engine.tick(PATIENCE)  # nothing of what is done stays at the sites, and no pilot in a queue
            return
        # what just ended may let something else begin, and nothing waits at the site: no pause then
        if not ticked.more and not (ticked.accepted and _idle(engine)):
            _wait(engine, begin, config.pause_local if ticked.here else config.pause)


def _wait(engine: Engine, begin: float, pause: float) -> None:
    """Sleep until the pause is over, or a site is due or answers, or a local agent has something to say, or a person said something."""
    before, ordered = _signs(engine), datasets.newest_command(engine.db)
    end = min(begin + pause, max(engine.next_due(), begin + min(pause, SHORTEST)))
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.05))
        if engine.lines.landed() or engine.transfers.landed() or engine.provisions.landed():
            return
        if datasets.newest_command(engine.db) != ordered:
            engine.hurry()
            return
        if time.monotonic() - begin >= min(pause, 0.2) and _signs(engine) != before and _idle(engine):
            return


def _signs(engine: Engine) -> tuple[object, ...]:
    """What changes when there is news here: sizes of local journals."""
    sizes = []
    for site in _here(engine):
        folder = site.spool.root / "agents"
        for path in sorted(folder.glob("*/journal.*")) if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                sizes.append((path.name, path.stat().st_size))
    return tuple(sizes)


def _here(engine: Engine) -> list[Any]:
    """Sites whose spool is on this machine: it can be looked at."""
    return [site for site in engine.sites.values() if site.config.host is None]


def _idle(engine: Engine) -> bool:
    """Whether a tick before its time is worth its cost: agents have nothing to claim, and more could be dealt or nothing is at work."""
    for site in _here(engine):
        inbox = site.spool.root / "inbox"
        if not inbox.is_dir() or not _any(inbox):
            at_work = any(_any(folder) for folder in (site.spool.root / "agents").glob("*/claimed"))
            return not at_work or datasets.something_waits(engine.db)
    return False


def _any(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is not None

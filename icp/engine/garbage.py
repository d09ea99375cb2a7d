"""What at home counts for nothing any more is found, and then removed (hides in which order, so that a kill leaves nothing half known)."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from icp.config import Config
from icp.engine.shipments import stock
from icp.engine.verification import what_is_wrong
from icp.ledger import garbage
from icp.ledger.db import Ledger

__all__ = ["Heap", "clear", "find"]


_OURS = re.compile(r"(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{16}|\.(?:[0-9a-f]{64}\.|(?:file|git|tree)-)[\w.]+)\Z")
"""Names of what was fetched, and of what was left when that was killed."""


@dataclass(slots=True)
class Heap:
    """What would be freed. ``changed``: outputs of deleted datasets that are other bytes than were recorded, and so stay."""

    relay: list[tuple[Path, int]] = field(default_factory=list)
    parts: list[tuple[Path, int]] = field(default_factory=list)
    fetched: list[tuple[Path, int]] = field(default_factory=list)
    """Tarballs, programs and modules, files and folders, that no dataset and no site names any more."""
    packs: list[garbage.Pack] = field(default_factory=list)
    outputs: list[garbage.Kept] = field(default_factory=list)
    changed: list[garbage.Kept] = field(default_factory=list)


DAY = 86400.0
"""What was fetched so many seconds ago at the least: who fetched it may be about to submit a dataset that needs it."""


def find(ledger: Ledger, config: Config, now: float) -> Heap:
    """Look, and change nothing."""
    heap = Heap()
    with ledger.read() as db:
        for folder, wanted, found in (
            (config.places.state / "relay", garbage.relayed, heap.relay), (config.places.state / "incoming", garbage.coming_home, heap.parts),
        ):  # fmt: skip
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                number = path.name.rpartition(".")[2]
                # what has not a name of ours is not ours
                if path.is_file() and not path.is_symlink() and number.isdigit() and not wanted(db, int(number)):
                    found.append((path, path.stat().st_size))
        heap.fetched = _fetched(config, garbage.fetched_for(db), now)
        heap.packs = garbage.packs_of_deleted(db)
        kept = garbage.outputs_of_deleted(db)
    for one in kept:
        if not one.path.exists():
            continue
        same = one.path.is_file() and not one.path.is_symlink() and one.path.stat().st_size == one.bytes
        (heap.outputs if same else heap.changed).append(one)
    return heap


def _fetched(config: Config, wanted: set[str], now: float) -> list[tuple[Path, int]]:
    wanted = wanted | {sha256 for site in config.sites.values() for _, sha256 in site.shipped}
    found = []
    for folder in (stock(config.places), config.places.cache / "modules"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            unwanted = _OURS.match(path.name) and path.name not in wanted
            if unwanted and path.stat().st_mtime < now - DAY:
                inside = path.rglob("*") if path.is_dir() else [path]
                found.append((path, sum(one.stat().st_size for one in inside if one.is_file())))
    return found


def clear(ledger: Ledger, heap: Heap, now: float, *, outputs: bool) -> int:
    """Remove it, ``outputs`` of deleted datasets only if that is said; bytes that were freed. The caller holds the engine's lock."""
    freed = 0
    for path, size in (*heap.relay, *heap.parts, *heap.fetched):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        freed += size
    gone: list[garbage.Kept] = []
    if outputs:
        gone = [one for one in heap.outputs if not what_is_wrong(one.path, one.bytes, one.sha256)]
    with ledger.write() as db:
        # somebody may have submitted the same files meanwhile
        packs = garbage.packs_of_deleted(db)
        garbage.clear_packs(db, [one.sha256 for one in packs])
        garbage.clear_outputs(db, [one.file for one in gone])
        files = len(heap.relay) + len(heap.parts) + len(heap.fetched)
        ledger.audit(now, "gc", None, f"{files} files, {len(packs)} packs, {len(gone)} outputs of deleted datasets")
    freed += sum(one.bytes for one in packs)
    for one in gone:
        one.path.unlink(missing_ok=True)
        freed += one.bytes
        with contextlib.suppress(OSError):
            one.path.parent.rmdir()  # only what is empty
            one.path.parent.parent.rmdir()
    return freed

"""What at home counts for nothing any more is found, and then removed (hides in which order, so that a kill leaves nothing half known)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from icp.config import Config
from icp.engine.verification import what_is_wrong
from icp.ledger import garbage
from icp.ledger.db import Ledger

__all__ = ["Heap", "clear", "find"]


@dataclass(slots=True)
class Heap:
    """What would be freed. ``changed``: outputs of deleted datasets that are other bytes than were recorded, and so stay."""

    relay: list[tuple[Path, int]] = field(default_factory=list)
    parts: list[tuple[Path, int]] = field(default_factory=list)
    packs: list[garbage.Pack] = field(default_factory=list)
    outputs: list[garbage.Kept] = field(default_factory=list)
    changed: list[garbage.Kept] = field(default_factory=list)


def find(ledger: Ledger, config: Config) -> Heap:
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
        heap.packs = garbage.packs_of_deleted(db)
        kept = garbage.outputs_of_deleted(db)
    for one in kept:
        if not one.path.exists():
            continue
        same = one.path.is_file() and not one.path.is_symlink() and one.path.stat().st_size == one.bytes
        (heap.outputs if same else heap.changed).append(one)
    return heap


def clear(ledger: Ledger, heap: Heap, now: float, *, outputs: bool) -> int:
    """Remove it, ``outputs`` of deleted datasets only if that is said; bytes that were freed. The caller holds the engine's lock."""
    freed = 0
    for path, size in (*heap.relay, *heap.parts):
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
        ledger.audit(now, "gc", None, f"{len(heap.relay) + len(heap.parts)} files, {len(packs)} packs, {len(gone)} outputs of deleted datasets")
    freed += sum(one.bytes for one in packs)
    for one in gone:
        one.path.unlink(missing_ok=True)
        freed += one.bytes
        with contextlib.suppress(OSError):
            one.path.parent.rmdir()  # only what is empty
            one.path.parent.parent.rmdir()
    return freed

"""`icp gc`: what is kept and counts for nothing any more goes (hides only the asking)."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, Yes, confirm, open_here, plural
from icp.commands.control import DryRun
from icp.output import clean, say

__all__ = ["gc"]

SHOWN = 5


def gc(
    outputs: Annotated[bool, typer.Option("--outputs", help="Also the outputs of deleted datasets, which stay otherwise.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Say what could be freed at home, ask, and free it: never anything that the ledger counts.

    That is: files in the relay cache that no task reads any more, parts of files that are not wanted any more, software and modules that were fetched
    and that no dataset or site names any more, files that were shipped with datasets which are all deleted; with --outputs what deleted datasets left in
    their folders, file by file, where the bytes are still those recorded.

    Examples:

      icp gc --dry-run

      icp gc --outputs --yes
    """
    from icp import config as configuration
    from icp.engine import garbage
    from icp.engine.loop import engine_lock

    config, ledger = configuration.load(), open_here()
    heap = garbage.find(ledger, config, time.time())
    relay, parts = sum(size for _, size in heap.relay), sum(size for _, size in heap.parts)
    fetched = sum(size for _, size in heap.fetched)
    packs, kept = sum(one.bytes for one in heap.packs), sum(one.bytes for one in heap.outputs)
    lines = [
        (len(heap.relay), relay, "in the relay cache, which no task reads any more", [path.name for path, _ in heap.relay]),
        (len(heap.parts), parts, "that began to come home, and are not wanted any more", [path.name for path, _ in heap.parts]),
        (len(heap.fetched), fetched, "fetched, which no dataset and no site names any more", [path.name for path, _ in heap.fetched]),
        (len(heap.packs), packs, "in the ledger, shipped with deleted datasets", [", ".join(one.names) for one in heap.packs]),
        (len(heap.outputs), kept, f"that deleted datasets left{'' if outputs else ' (they stay, without --outputs)'}", [str(one.path) for one in heap.outputs]),
    ]  # fmt: skip
    total = relay + parts + fetched + packs + (kept if outputs else 0)
    anything = bool(heap.relay or heap.parts or heap.fetched or heap.packs or (outputs and heap.outputs))
    if not as_json:
        for n, size, what, names in lines:
            if n:
                say(f"{plural(n, 'file')}, {output.plain_size(size)}, {what}")
                for name in names[:SHOWN]:
                    say(f"    {clean(name)}")
                if n > SHOWN:
                    say(f"    and {n - SHOWN} more")
        if heap.changed:
            say(f"{plural(len(heap.changed), 'file')} of deleted datasets changed since: nobody but you touches them")
    freed = 0
    if anything and not dry_run:
        confirm(f"Free {output.plain_size(total)}?", yes)
        with engine_lock(config):
            # what an engine did meanwhile counts
            freed = garbage.clear(ledger, garbage.find(ledger, config, time.time()), time.time(), outputs=outputs)
    if as_json:
        output.print_json({
            "relay": {"files": len(heap.relay), "bytes": relay}, "parts": {"files": len(heap.parts), "bytes": parts},
            "fetched": {"files": len(heap.fetched), "bytes": fetched},
            "packs": {"files": len(heap.packs), "bytes": packs}, "outputs": {"files": len(heap.outputs), "bytes": kept}, "freed": freed,
        })  # fmt: skip
    elif not anything:
        say("nothing is to be freed")
    elif dry_run:
        say(f"would free {output.plain_size(total)}; nothing was changed")
    else:
        say(f"freed {output.plain_size(freed)}")

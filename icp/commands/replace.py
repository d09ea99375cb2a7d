"""`icp submit --replace`: what a steering file would do again of a dataset (hides only the asking and printing)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from icp import output
from icp.commands.arguments import confirm, fetching, open_here, plural, the_dataset
from icp.errors import BadInput
from icp.output import clean, say

if TYPE_CHECKING:
    from icp.config import Config
    from icp.engine.replacement import Redo

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["replace_dataset"]

SHOWN = 5


def replace_dataset(
    config: Config, steering: Path, name: str, jobs: int | None, *, plan: bool, ignore_files: bool, yes: bool, as_json: bool
) -> None:  # fmt: skip
    """Compare, say what is done again, ask, and do it."""
    from icp.engine import shipments, submission
    from icp.engine.replacement import Replacement
    from icp.ledger.datasets import read_dataset

    ledger = open_here()
    number = the_dataset(ledger, name)
    row = read_dataset(ledger.db, number)
    if name not in (row.name, str(number)):
        raise BadInput(f"{name!r} is only the beginning of a name", f"`icp submit {steering} --replace {row.name}`, in full")
    sites = config.sites.values()
    with fetching():
        prepared = submission.prepare(steering, jobs=jobs, sites=sites, outputs=Path(row.outputs), seed=row.seed, ledger=ledger)
    if jobs is None and prepared.steering.jobs.kind == "count" and prepared.steering.jobs.count == _said(row.steering):
        # the file says what it said: a number that was given beside it, or added since, stays
        prepared = submission.prepare(steering, jobs=row.jobs, sites=sites, outputs=Path(row.outputs), seed=row.seed, ledger=ledger)
    replacement = Replacement(ledger, number, prepared, sites, time.time(), ignore_files=ignore_files)
    redo = replacement.compare()
    revision = None
    if replacement.nothing and not redo.changed and not as_json:
        say(f"this file is what describes dataset {clean(row.name)}: there is nothing to do")
        return
    if not plan:
        if redo.again and not as_json:
            _print(row.name, redo)
            confirm(f"Replace dataset {clean(row.name)} and do {plural(redo.again, 'task')} that are ok again?", yes)
        with fetching():
            shipments.provide_software(config.places, prepared.steering, prepared.directory)
        revision, goes_on = replacement.carry_out(redo)
    if as_json:
        output.print_json({
            "dataset": number, "name": row.name, "revision": revision, "again": redo.again, "kept": redo.kept, "new_jobs": redo.more,
            "files_changed": redo.files,
            "changed": [{"task": redo.names[one], "jobs": [{"first": max(-1, a), "last": b} for a, b in ranges]} for one, ranges in redo.changed.items()],
            "following": [redo.names[one] for one in redo.following], "inputs": [redo.names[one] for one in redo.inputs],
        })  # fmt: skip
        return
    if plan:
        _print(row.name, redo)
        say("nothing was changed")
        return
    say(f"dataset {clean(row.name)} is described by revision {revision} now: {plural(redo.again, 'task')} that were ok will be done again, {redo.kept:,} stay"
        + ("" if goes_on else f"; it is suspended as before: `icp resume {clean(row.name)}`"))  # fmt: skip


def _said(text: str) -> int | None:
    """How many jobs a steering file asks for, if it says a number."""
    try:
        jobs = tomllib.loads(text).get("jobs", 1)
    except tomllib.TOMLDecodeError:
        return None
    return jobs if isinstance(jobs, int) else None


def _print(name: str, redo: Redo) -> None:
    more = f", {plural(redo.more, 'new job')}" if redo.more else ""
    say(f"dataset {clean(name)}: {plural(redo.kept, 'task')} that are ok stay, {redo.again:,} are done again{more}")
    if redo.files:
        say("  the files that are shipped with it are other ones" + ("" if redo.changed else ", which is ignored"))
    for one, ranges in redo.changed.items():
        said = [f"{a}" if a == b else "all groups" if a < 0 else f"{a}-{b}" for a, b in ranges]
        jobs = ", ".join(said[:SHOWN]) + (f" and {plural(len(said) - SHOWN, 'range')} more" if len(said) > SHOWN else "")
        say(f"  {clean(redo.names[one])} is described otherwise: {'' if said == ['all groups'] else 'jobs '}{jobs}")
    follows = [clean(redo.names[one]) for one in redo.following if one not in redo.changed]
    if follows:
        say(f"  with what follows from it: {', '.join(follows)}")
    needed = [clean(redo.names[one]) for one in redo.inputs if one not in redo.changed and one not in redo.following]
    if needed:
        say(f"  and what they read, where that is gone: {', '.join(needed)}")

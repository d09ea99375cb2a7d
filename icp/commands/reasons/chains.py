"""Why a dataset that is made from another one's outputs waits, and what of these is not what it was made from (hides where that is kept)."""

from __future__ import annotations

import shlex
from typing import Any

from icp.commands.arguments import plural
from icp.commands.reasons.teller import Answer
from icp.ledger import chaining, following, views
from icp.ledger.following import Following

__all__ = ["changed_sentence", "follows", "sources"]

SHOWN = 5
"""Files that are evidence."""


def follows(db: Any, dataset: int) -> list[Answer]:
    """What a dataset waits for whose jobs are added as outputs of another one come; nothing where none will come."""
    one = following.view(db, dataset)
    name = views.one_dataset(db, dataset).name
    if one is None or not one.open:
        return []
    other = views.one_dataset(db, one.number)
    evidence = [f"{one.name}: {other.ok:,} of {plural(other.tasks, 'task')} ok, {plural(other.coming, 'kept file')} on the way home"]
    evidence.append(f"{plural(one.taken, 'file')} of {one.task}:{one.output} taken by jobs of {name}" + _held(one))
    mends = {"suspended": f"icp resume {shlex.quote(one.name)}", "errors": f"icp retry {shlex.quote(one.name)}"}
    why = f": {other.reason}" if other.state == "suspended" and other.reason else ""
    state = "in error" if other.state == "errors" else other.state
    sentence = f"it waits for outputs of dataset {one.name}, which is {state}{why}"
    return [Answer(f"dataset {name}", "following", sentence, tuple(evidence), mends.get(other.state, f"icp why {shlex.quote(one.name)}"))]


def _held(one: Following) -> str:
    held = f", {one.gathered:,} wait{'s' if one.gathered == 1 else ''} until the group is full or nothing more comes" if one.gathered else ""
    return held + (f", {one.queued:,} came since the last tick" if one.queued else "")


def sources(db: Any, dataset: int, first: int, last: int) -> list[Answer]:
    """What of these jobs is made from files that count no more."""
    found = chaining.changed(db, dataset, first, last, 1000)
    if not found:
        return []
    name = views.one_dataset(db, dataset).name
    jobs = sorted({one.job for one in found})
    which = f"job {jobs[0]}" if len(jobs) == 1 else f"{len(jobs)}{'' if len(found) < 1000 else ' or more'} jobs, the first is {jobs[0]},"
    sentence = f"{which} {'was' if len(jobs) == 1 else 'were'} made from what counts no more in dataset {found[0].dataset}"
    return [Answer(f"dataset {name}", "source changed", sentence, tuple(changed_sentence(one) for one in found[:SHOWN]),
                   f"icp reset {shlex.quote(name)} --job {jobs[0]}" if any(one.now for one in found) else "")]  # fmt: skip


def changed_sentence(one: chaining.Changed) -> str:
    """What became of one file that a job was made from."""
    what = f"job {one.job}: {one.name} of job {one.source_job} of {one.dataset} had sha256 {one.sha256[:16]}..."
    if one.now is not None:
        return f"{what}, and is {one.now[:16]}... now"
    return f"{what}, and is being made again" if one.again else f"{what}, and is not there any more"

"""A recorded job once more, and its outputs beside those that were recorded (hides whether a ledger or an export has the record)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from icp.engine.export import read_export
from icp.engine.foreground import Ran, Recorded
from icp.engine.provenance import recorded_steering
from icp.errors import BadInput, Refused
from icp.ledger import cards, provenance
from icp.ledger.datasets import home_members, job_rows, read_dataset
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.files import home_path
from icp.ledger.views_results import outputs

__all__ = ["Compared", "Made", "check_final", "compare", "of_export", "of_ledger", "same"]

Made = Callable[[int], dict[tuple[str, str], str]]
"""job (-1 - group: a final task) -> (task, name) -> sha256 of what counts"""


@dataclass(frozen=True, slots=True)
class Compared:
    """``word``: same, differs, not made, or new (nothing of this name was recorded)."""

    task: str
    name: str
    recorded: str | None
    now: str | None
    word: str


def of_export(path: Path) -> tuple[Recorded, Made]:
    """What an export holds."""
    return read_export(path)


def of_ledger(ledger: Ledger, dataset: int) -> tuple[Recorded, Made]:
    """What this ledger holds, as it is described now; its outputs are lent."""
    row = read_dataset(ledger.db, dataset)
    steering = recorded_steering(provenance.revision(ledger.db, dataset))
    if steering.jobs.kind == "rows":
        steering = recorded_steering(provenance.revision(ledger.db, dataset), job_rows(ledger.db, dataset))
    pack = None if row.pack is None else cards.blob(ledger.db, row.pack)

    def made(job: int) -> dict[tuple[str, str], str]:
        with ledger.read() as db:
            graph = Definitions(db).graph(dataset)
            return {(one.task, one.name): one.sha256 for one in outputs(db, graph, first=job, last=job, every=True)}

    return Recorded(steering, Path(row.directory), row.seed, pack, row.jobs, dataset, row.outputs), made


def check_final(recorded: Recorded, job: int, task: str | None, ledger: Ledger | None) -> None:
    """A final task runs again only where all that it read lies at home. BadInput, Refused."""
    finals = {one.name: one for one in recorded.steering.finals}
    if task not in finals:
        if job < 0:
            raise BadInput("--job final: which final task?", f"--task with one of {', '.join(finals) or 'none: this dataset has no final task'}")
        return
    one = finals[task]
    if one.group_by is not None or job < -1:
        raise BadInput(f"final task {task} has groups, which cannot be done again one by one", f"`icp reset DATASET --task {task}` does all of them anew")
    if ledger is None or recorded.dataset is None:
        raise BadInput(f"final task {task} reads the outputs of all jobs, which an export does not lend", "rerun its jobs, or ask the ledger it came from")
    db = ledger.db
    graph = Definitions(db).graph(recorded.dataset)
    for ref in one.inputs:
        parent = graph.by_name(ref.task)
        assert parent is not None
        index = [output.name for output in parent.outputs].index(ref.output)
        counted = provenance.counted(db, recorded.dataset, parent.id, index)
        lent = home_members(db, recorded.dataset, ref.task, ref.output)
        there = [1 for member, name, _ in lent if home_path(recorded.outputs, recorded.jobs, member, name).exists()]
        if len(there) < counted:
            gone = f"{counted - len(there)} of {counted} files that final task {task} read are not at home"
            raise Refused(gone, f"`keep = true` in task {ref.task} keeps them")


def compare(ran: Iterable[Ran], recorded: dict[tuple[str, str], str]) -> list[Compared]:
    """What the tasks that ran made, and did not make, beside the record."""
    found: list[Compared] = []
    for one in ran:
        now = {name: digest for name, _, digest in one.outputs}
        before = {name: digest for (task, name), digest in recorded.items() if task == one.task}
        for name in dict.fromkeys([*before, *now]):
            old, new = before.get(name), now.get(name)
            word = "new" if old is None else "not made" if new is None else "same" if old == new else "differs"
            found.append(Compared(one.task, name, old, new, word))
    return found


def same(ran: Iterable[Ran], compared: Iterable[Compared]) -> bool:
    """Whether every task ended well and made the bytes of the record."""
    return all(one.ok for one in ran) and all(one.word == "same" for one in compared)

"""Outputs of one dataset gathered into jobs of another: whole groups, as they come (hides when a group is full).

Pure: the ledger says what came, and holds what waits for its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["COLUMNS", "KEY", "ChainOutput", "columns", "gather", "name_in_task", "row"]

COLUMNS = ("files", "source_dataset", "source_job", "source_sha256", "source_path")
"""What a job that is made from an output knows of it; lists where it is made from a group of them."""
KEY = "source_group"

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class ChainOutput:
    """A file of an output of ``dataset``, at home as ``path``; ``part``: which of the files of this output of this job."""

    dataset: str
    job: int
    """-1 - group of a final task"""
    folder: str
    """of its job, below the dataset's outputs"""
    name: str
    sha256: str
    path: str
    part: int = 0


def columns(*, grouped: bool, keyed: bool) -> tuple[str, ...]:
    """``grouped``: a job has many files; ``keyed``: and what ``group_by`` gave."""
    return (*COLUMNS, KEY) if grouped and keyed else COLUMNS


def name_in_task(task: str, folder: str, name: str, *, grouped: bool) -> str:
    """As what a task finds a file that its job is made from: of many no two have one name."""
    return f"inputs/{task}/{folder}/{name}" if grouped else name.rpartition("/")[2]


def row(task: str, outputs: Sequence[ChainOutput], *, grouped: bool, key: str | None = None) -> tuple[Any, ...]:
    """The columns of a job that is made from these outputs of ``task``; ``key``: what ``group_by`` gave, None without one."""
    names = [name_in_task(task, one.folder, one.name, grouped=grouped) for one in outputs]
    if not grouped:
        (one,) = outputs
        return (names[0], one.dataset, one.job, one.sha256, one.path)
    found: tuple[Any, ...] = (
        names, outputs[0].dataset, [one.job for one in outputs], [one.sha256 for one in outputs], [one.path for one in outputs],
    )  # fmt: skip
    return found if key is None else (*found, key)


def gather(waiting: Mapping[str, Sequence[M]], came: Iterable[tuple[str, M]], size: int | None, *, over: bool) -> list[tuple[str, list[M]]]:
    """The groups that are full now, (key, members), in the order in which they became so.

    ``waiting``: members by key that wait for their group, the oldest first; ``came``: (key, member) behind them; ``size``: how many are a full
    group (None: a group is never full); ``over``: no more come, so that whatever is left is a group.
    """
    groups = {key: list(members) for key, members in waiting.items()}
    full: list[tuple[str, list[M]]] = []

    def close(key: str) -> None:
        while size is not None and len(groups[key]) >= size:
            full.append((key, groups[key][:size]))
            groups[key] = groups[key][size:]

    for key in groups:
        close(key)
    for key, member in came:
        groups.setdefault(key, []).append(member)
        close(key)
    if over:
        full += [(key, members) for key, members in groups.items() if members]
    return full

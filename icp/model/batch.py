"""Pilots as batch jobs, as records: what is asked of a batch system, and what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Captured", "Known", "NotSubmitted", "Submitted", "Unclear", "Wanted", "batch_name", "name_pattern"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A batch job to be rendered. None: the batch system's own default."""

    name: str
    """The job's name, ``batch_name``."""
    folder: str
    """The pilot's folder at the site, absolute; the batch system writes ``stdout`` and ``stderr`` there."""
    nodes: int = 1
    cpus: int | None = None
    """Of each node."""
    memory: int | None = None
    """Bytes, of each node."""
    gpus: int | None = None
    """Of each node."""
    disk: int | None = None
    """Bytes, of each node, where the batch system counts it."""
    walltime: int = 3600
    """Seconds; rounded up to minutes."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    program: str | None = None
    """The pilot's program at the site, absolute, where workers share no file system with it: ``pilot.sh``, ``bag`` and this travel with the job, and
    ``back`` comes back into the pilot's folder."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of Parsl's provider, by its names, and of ours beside them."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What an exchange carries: files for the pilot's folder, and the command (``{dir}`` is that folder)."""

    argv: tuple[str, ...]
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The batch system's id of the job."""

    job: str


@dataclass(frozen=True, slots=True)
class NotSubmitted:
    """The batch system said no; nothing was submitted."""

    why: str
    hint: str
    again: bool
    """It may say yes later without anybody mending anything."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """It may have been submitted, and the listing by name must tell."""

    why: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the batch system says of one pilot's job."""

    word: str
    """``pending``, ``running``, ``ended``; ``unknown`` where it left the listing and nobody could be asked how it ended."""
    reason: str = ""
    """Why it waits, or how it ended, in the batch system's words."""
    exit: int | None = None
    """As a shell gives it (128 + signal); None where it is not known or means nothing."""
    job: str = ""
    """The batch system's id."""
    others: tuple[str, ...] = ()
    """Further jobs of the same pilot that have not ended: one too many was submitted, and they should be cancelled."""
    never: str = ""
    """Where it waits for what will never come: what mends it."""
    ours: bool = False
    """What mends it is a change of our configuration; otherwise the site's people, or the person there, have to do something."""
    core_seconds: float | None = field(default=None, compare=False)
    """What it is charged: the time it held its cores, times their number; None where accounting has not told (yet)."""
    tells: str = field(default="", compare=False)
    """What the running job says of itself, where the batch system passes that on (icp.pilot.live): for people to see."""


def batch_name(ledger: str, pilot: str) -> str:
    """The name of a pilot's batch job."""
    return f"icp-{ledger[:8]}-{pilot}"


def name_pattern(ledger: str) -> re.Pattern[str]:
    """Matches names of this ledger's batch jobs whole; group 1 is the pilot. Parsl adds a time to names."""
    return re.compile(rf"icp-{re.escape(ledger[:8])}-([0-9a-f]{{16}})(?:\.[0-9.]+)?\Z")

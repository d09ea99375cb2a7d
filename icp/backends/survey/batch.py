"""How each batch system is found at a host, and what it says of its partitions and accounts, one class each (hides which is which)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["LOOKS", "Account", "Batch", "Look", "Part", "Partition", "failure"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one command printed (stderr too), and how it ended."""

    text: str
    code: int | None = None

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def first(self) -> str | None:
        return self.lines[0].strip() if self.lines else None


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition or queue that is shown to this person."""

    name: str
    """"" where the batch system has no queues, and this is the pool as a whole."""
    default: bool
    open: bool
    """It takes jobs of this person and starts them."""
    limit: int | None
    """Seconds that a job may ask for; None: any."""
    nodes: int
    cpus: int
    """Of its smallest node."""
    memory: int | None
    """Bytes, of its smallest node."""
    gpus: int
    """Of its best node."""
    accounts: tuple[str, ...] | None = None
    """Only these may use it; None: all."""
    largest: int | None = None
    """Cpus of its largest node, where they differ."""
    options: Mapping[str, str] = field(default_factory=dict)
    """``pe``, ``memory_resource``, ``gpu_resource``: what the site calls that there, where it is not what most call it."""

    @property
    def title(self) -> str:
        """As a sentence has it."""
        return f"the partition {self.name}" if self.name else "the pool"


@dataclass(frozen=True, slots=True)
class Account:
    """What may be charged, with what this person may use it for."""

    name: str
    default: bool
    partition: str | None = None
    """Only there."""
    qos: tuple[str, ...] = ()
    limit: int | None = None
    """Seconds of walltime."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch system as it shows itself; nothing of it where there is none."""

    version: str = ""
    partitions: tuple[Partition, ...] = ()
    accounts: tuple[Account, ...] = ()
    accounting: bool | None = None
    """Whether ended jobs can be asked about; None: it could not be found out."""
    trouble: str = ""
    """Why it did not answer."""
    need_account: bool = False
    """Jobs without an account that is known are refused."""
    charges: bool = True
    """A job of a person who has accounts is charged to one of them, named or not; otherwise they may be named, and are not by default."""
    shared: bool | None = None
    """Whether workers see the login node's files, where the batch system says so."""
    notes: tuple[str, ...] = ()
    """What a person should know before the first job."""


class Look(Protocol):
    """One kind of batch system. A new one is one class, and its name in LOOKS."""

    scheduler: str
    """As the configuration calls it."""
    command: str
    """Where this command is, this batch system is."""
    script: str
    """sh that runs its commands by ``run NAME COMMAND ...``; their answers are the parts of that name."""

    def read(self, parts: Mapping[str, Part]) -> Batch:
        """What the answers say."""


def failure(program: str, part: Part) -> str:
    """Why a command told nothing; "" where it ended well."""
    if part.code == 0:
        return ""
    return f"{program} failed: {part.lines[-1].strip()[:200]}" if part.lines else f"{program} did not answer"


def _looks() -> tuple[Look, ...]:
    from icp.backends.survey.condor import CondorLook
    from icp.backends.survey.grid_engine import GridEngineLook
    from icp.backends.survey.lsf import LsfLook
    from icp.backends.survey.pbs import PbsLook, TorqueLook
    from icp.backends.survey.slurm import SlurmLook

    # qsub is of three of them: each is known by a command that the others lack, and Torque, whose commands PBS has too, comes after PBS
    return (SlurmLook(), GridEngineLook(), PbsLook(), TorqueLook(), LsfLook(), CondorLook())


LOOKS: tuple[Look, ...] = _looks()
"""In this order: of several that are found, the first one counts."""

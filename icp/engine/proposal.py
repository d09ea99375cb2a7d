"""The table of a new site, from what its host shows and what a person asks for (hides the defaults, and every limit that a value is held against)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from icp.backends.survey import Survey
from icp.backends.survey.batch import Account, Partition
from icp.config.keys import checked
from icp.errors import BadInput

__all__ = ["Asked", "Choice", "Proposal", "choices", "propose", "written"]

CPUS = 8
"""Of a pilot that nobody said more of, at the most: small enough to start soon, large enough to be worth a job."""
WALLTIME = 8 * 3600
MAX, PENDING = 10, 2


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person said; None: nothing."""

    name: str
    host: str | None = None
    scheduler: str | None = None
    root: str | None = None
    partition: str | None = None
    account: str | None = None
    walltime: str | None = None
    cpus: int | None = None
    memory: str | None = None
    gpus: int | None = None
    max: int | None = None
    max_pending: int | None = None
    python: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """A question that has several answers."""

    option: str
    what: str
    answers: tuple[str, ...]
    default: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """Keys below ``site.NAME``, and what a person should know about them."""

    keys: dict[str, Any]
    notes: tuple[str, ...]


def choices(survey: Survey, asked: Asked) -> list[Choice]:
    """What only the person can decide; what is asked for already is no question."""
    found = []
    open_ones = [one for one in survey.batch.partitions if one.open]
    if asked.partition is None and len(open_ones) > 1:
        found.append(Choice("--partition", "partition", tuple(one.name for one in open_ones), _default_partition(open_ones).name))
    names = list(dict.fromkeys(one.name for one in survey.batch.accounts))
    if asked.account is None and len(names) > 1 and survey.batch.charges:
        found.append(Choice("--account", "account", tuple(names), names[0]))
    return found


def _default_partition(partitions: Sequence[Partition]) -> Partition:
    """The site's default, or else the largest that gives an hour at least."""
    for one in partitions:
        if one.default:
            return one
    return max(partitions, key=lambda one: (one.limit is None or one.limit >= 3600, one.nodes))


def propose(survey: Survey, asked: Asked) -> Proposal:
    """The table. BadInput where what is asked for does not exist there, or is over a limit."""
    notes: list[str] = []
    keys: dict[str, Any] = {}
    if asked.host is not None:
        keys["host"] = asked.host
    keys["scheduler"] = survey.scheduler
    keys["root"] = _root(survey, asked)
    if survey.python is None and asked.python is None:
        raise BadInput(f"there is no Python 3.6 or newer at {survey.host}, in the usual places or in a login shell's PATH",
                       "name one with --python /path/to/python3; `module avail python` there may show where")  # fmt: skip
    if asked.python is not None:
        keys["python"] = asked.python
    elif asked.host is not None and survey.path is None and survey.python is not None and not survey.python.startswith(("/usr/bin/", "/usr/local/bin/")):
        # a PATH may look different when nobody logged in
        keys["python"] = survey.python
    if survey.batch.accounting is not None and survey.scheduler != "none":
        keys["accounting"] = survey.batch.accounting
    if survey.scheduler == "none":
        _without_batch(survey, asked, keys, notes)
    else:
        _batch(survey, asked, keys, notes)
    if survey.path is not None:
        keys["env.PATH"] = survey.path
        notes.append(f"only the PATH of a login shell leads to {' and '.join(survey.path_for)}, so that PATH is given to pilots too")
    for name, value in asked.attributes.items():
        keys[f"attributes.{name}"] = value
    return Proposal(keys, tuple(notes))


def _root(survey: Survey, asked: Asked) -> str:
    home = survey.home.rstrip("/")
    where = f"{home}/.icp/{asked.name}"
    if asked.root is not None:
        where = re.sub(r"^(?:~|\$HOME|\$\{HOME\})(?=/|$)", lambda _: home, asked.root).rstrip("/")
        seen = next((one for one in survey.disks if one.name == "root"), None)
        if seen is not None and where.startswith("$"):
            where = seen.path.rstrip("/")
    else:
        seen = next((one for one in survey.disks if one.name == "home"), None)
    if not where.startswith("/"):
        raise BadInput(f"--root {asked.root}: expected an absolute path at the site", f"for example {home}/.icp/{asked.name}")
    if seen is not None and not seen.writable:
        others = [f"{one.path}/icp-{asked.name}" for one in survey.disks if one.writable and one.name not in ("home", "root")]
        raise BadInput(f"{seen.path} at {survey.host} cannot be written: {seen.why or 'a small file could not be made'}",
                       f"make room there, or choose another place that workers see too: --root {others[0] if others else 'DIR'}")  # fmt: skip
    return where


def _without_batch(survey: Survey, asked: Asked, keys: dict[str, Any], notes: list[str]) -> None:
    for option in ("partition", "account"):
        if getattr(asked, option) is not None:
            raise BadInput(f"--{option} {getattr(asked, option)}: {survey.host} has no batch system that icp knows, so there is no {option}",
                           f"leave --{option} out, or name the login node of a cluster with --host")  # fmt: skip
    if asked.cpus is not None and asked.cpus > survey.cpus:
        raise BadInput(f"--cpus {asked.cpus}: {survey.host} has {survey.cpus}")
    if asked.memory is not None and survey.memory is not None and _size(asked.memory) > survey.memory:
        raise BadInput(f"--memory {asked.memory}: {survey.host} has {survey.memory / 1e9:.1f} GB")
    keys["pilot.cpus"] = asked.cpus or survey.cpus
    if asked.memory is not None:
        _size(asked.memory)
        keys["pilot.memory"] = asked.memory
    if asked.gpus is not None:
        keys["pilot.gpus"] = asked.gpus
    if asked.walltime is not None:
        _time(asked.walltime)
        keys["pilot.walltime"] = asked.walltime
    for name in ("max", "max_pending"):
        if getattr(asked, name) is not None:
            keys[f"pilot.{name}"] = getattr(asked, name)
    if asked.cpus is None:
        notes.append(f"no batch system was found: one pilot on {survey.host} itself, with all of its {survey.cpus} cpus; `--cpus N` for fewer")


def _batch(survey: Survey, asked: Asked, keys: dict[str, Any], notes: list[str]) -> None:
    if survey.batch.trouble:
        raise BadInput(f"{survey.scheduler} is installed at {survey.host}, but does not answer ({survey.batch.trouble})",
                       "try again later; `--scheduler none` would use the host itself")  # fmt: skip
    partition = _partition(survey, asked)
    account = _account(survey, asked, partition)
    if survey.batch.shared is False:
        keys["shared"] = False
    if partition is not None and partition.name:
        keys["pilot.partition"] = partition.name
    if account is not None:
        keys["pilot.account"] = account.name
    elif survey.batch.need_account and not survey.batch.accounts:
        notes.append("the batch system wants an account, and shows none of yours: ask the site, or name one with --account")
    cpus = _cpus(asked, partition)
    if cpus is not None:
        keys["pilot.cpus"] = cpus
    memory = _memory(asked, partition, cpus)
    if memory is not None:
        keys["pilot.memory"] = memory
    if asked.gpus is not None:
        if partition is not None and asked.gpus > partition.gpus:
            has = f"nodes with {partition.gpus}" if partition.gpus else "none"
            better = [one.name for one in survey.batch.partitions if one.gpus >= asked.gpus]
            raise BadInput(f"--gpus {asked.gpus}: {partition.title} has {has}",
                           f"partitions with so many: {', '.join(better)}" if better else "no partition shows so many gpus on one node")  # fmt: skip
        keys["pilot.gpus"] = asked.gpus
    keys["pilot.walltime"] = _walltime(asked, partition, account)
    used = {"pe": (cpus or 1) > 1, "memory_resource": memory is not None, "gpu_resource": bool(asked.gpus)}
    for name, value in (partition.options if partition is not None else {}).items():
        if used[name]:
            keys[f"pilot.options.{name}"] = value
    keys["pilot.max"] = MAX if asked.max is None else asked.max
    keys["pilot.max_pending"] = min(PENDING, keys["pilot.max"]) if asked.max_pending is None else asked.max_pending
    if asked.cpus is None and cpus is not None and partition is not None:
        notes.append(f"a pilot is one job of {cpus} cpus: a node of {partition.name or partition.title}, or {CPUS} cpus of it, with their share of its memory; "
                     f"{keys['pilot.max']} pilots at once, {keys['pilot.max_pending']} waiting; options change all of it")  # fmt: skip
    notes += [note.replace("site.NAME", f"site.{asked.name}") for note in survey.batch.notes]


def _partition(survey: Survey, asked: Asked) -> Partition | None:
    there = survey.batch.partitions
    if asked.partition is not None and any(not one.name for one in there):
        raise BadInput(f"--partition {asked.partition}: {survey.scheduler} has no partitions",
                       f"leave it out; `icp config set site.{asked.name}.pilot.constraint ...` chooses machines")  # fmt: skip
    if asked.partition is not None:
        for one in there:
            if one.name == asked.partition:
                if not one.open:
                    raise BadInput(f"--partition {one.name}: it is closed now", f"open are {_names([p.name for p in there if p.open])}")
                return one
        if there:
            raise BadInput(f"--partition {asked.partition}: {survey.host} has no such partition", f"there are {_names([one.name for one in there])}")
        return None
    open_ones = [one for one in there if one.open]
    if there and not open_ones:
        raise BadInput(f"all partitions of {survey.host} are closed ({_names([one.name for one in there])})", "try again later")
    return _default_partition(open_ones) if open_ones else None


def _account(survey: Survey, asked: Asked, partition: Partition | None) -> Account | None:
    there = survey.batch.accounts
    names = list(dict.fromkeys(one.name for one in there))
    wanted = asked.account
    if wanted is not None and there and wanted not in names:
        raise BadInput(f"--account {wanted}: it is not an account of {survey.user} at {survey.host}", f"there are {_names(names)}")
    if wanted is not None and not there:
        return Account(wanted, default=False)
    fit = [one for one in there if wanted in (None, one.name) and (partition is None or one.partition in (None, partition.name))]
    if wanted is None and not survey.batch.charges and not any(one.default for one in there) and (partition is None or partition.accounts is None):
        return None
    if partition is not None and partition.accounts is not None:
        fit = [one for one in fit if one.name in partition.accounts]
        if there and not fit:
            raise BadInput(f"the partition {partition.name} is open to the accounts {_names(partition.accounts)} only"
                           + (f", not to {wanted}" if wanted else f", and {survey.user} has {_names(names)}"), "choose another --partition")  # fmt: skip
    if there and not fit:
        places = sorted({one.partition for one in there if one.partition and wanted in (None, one.name)})
        raise BadInput(f"the account {wanted or _names(names)} cannot be used in the partition {partition.name if partition else ''}",
                       f"it can in {_names(places)}: --partition")  # fmt: skip
    return fit[0] if fit else None


def _cpus(asked: Asked, partition: Partition | None) -> int | None:
    if partition is None:
        return asked.cpus
    most = partition.largest or partition.cpus
    if asked.cpus is not None:
        if asked.cpus > most:
            raise BadInput(f"--cpus {asked.cpus}: the nodes of {partition.name or partition.title} have {most} at the most",
                           f"--cpus {most}, or another --partition")  # fmt: skip
        return asked.cpus
    return max(1, min(partition.cpus, CPUS))


def _memory(asked: Asked, partition: Partition | None, cpus: int | None) -> str | None:
    if asked.memory is not None:
        size = _size(asked.memory)
        # where nodes differ, a larger one may have it: the batch system will tell
        if partition is not None and partition.memory is not None and size > partition.memory and partition.largest == partition.cpus:
            has = f"{partition.memory / 1e9:.1f} GB"
            raise BadInput(f"--memory {asked.memory}: the nodes of {partition.name or partition.title} have {has}", "ask for less, or another --partition")
        return asked.memory
    if partition is None or partition.memory is None or partition.memory < 2**30 or cpus is None:
        return None  # a site that shows 1 MB does not count memory at all
    share = min(partition.memory, partition.memory * cpus // partition.cpus)
    return f"{share // 10**9} GB" if share >= 10**9 else f"{share // 10**6} MB"


def _walltime(asked: Asked, partition: Partition | None, account: Account | None) -> str:
    limits = [(partition.limit, partition.title)] if partition is not None and partition.limit is not None else []
    if account is not None and account.limit is not None:
        limits.append((account.limit, f"the account {account.name}"))
    least, whose = min(limits, default=(None, ""))
    if asked.walltime is not None:
        wanted = _time(asked.walltime)
        if least is not None and wanted > least:
            raise BadInput(f"--walltime {asked.walltime}: the limit of {whose} is {written(least)}", f"--walltime '{written(least)}', or another --partition")
        return asked.walltime
    return written(WALLTIME if least is None else min(least, WALLTIME))


def written(seconds: int) -> str:
    """Seconds as the configuration has them: ``8 h``, ``90 min``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _size(text: str) -> int:
    try:
        return int(checked("size", text))
    except ValueError as error:
        raise BadInput(f"--memory {text}: {error}") from None


def _time(text: str) -> int:
    try:
        seconds = int(checked("time", text))
    except ValueError as error:
        raise BadInput(f"--walltime {text}: {error}") from None
    if seconds < 60:
        raise BadInput(f"--walltime {text}: expected a minute or more", "a number is seconds; '8 h' and '30 min' are understood")
    return seconds


def _names(names: Sequence[str]) -> str:
    some = list(names)
    return ", ".join(some[:12]) + (f" and {len(some) - 12} more" if len(some) > 12 else "")

"""HTCondor as it shows itself: the slots of its pool, whether they share files with the access point, groups (hides condor_status and its attributes)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icp.backends.survey.batch import Account, Batch, Part, Partition, failure

__all__ = ["CondorLook", "Slots", "slots"]

_FIELDS = ("TotalSlotCpus", "TotalSlotMemory", "TotalSlotGPUs", "FileSystemDomain", "MaxJobRetirementTime", "Cpus", "Memory", "Start")


class CondorLook:
    """One pool, as its access point has it. It has no queues and no limit of walltime; what a job may use is a slot."""

    scheduler = "condor"
    command = "condor_submit"
    script = (
        "run condor.version condor_version; "
        "run condor.asked condor_q -totals; "
        # alike slots are counted there: a pool may have a hundred thousand
        "run condor.slots sh -c \"condor_status -constraint 'SlotType =!= \\\"Dynamic\\\"' "
        f"-af:t {' '.join(_FIELDS)} | sort | uniq -c\"; "
        "run condor.domain condor_config_val FILESYSTEM_DOMAIN; "
        "run condor.groups condor_config_val GROUP_NAMES; "
        "run condor.history condor_history -limit 1 -af ClusterId"
    )

    def read(self, parts: Mapping[str, Part]) -> Batch:
        def text(name: str) -> str:
            part = parts.get(f"condor.{name}", Part(""))
            return part.text if part.code == 0 else ""

        found = slots(text("slots"))
        number = re.search(r"\d+(?:\.\d+)+", parts.get("condor.version", Part("")).text)
        shared, notes = _shared(found, text("domain").strip())
        history = parts.get("condor.history", Part(""))
        return Batch(
            version=number[0] if number else "",
            partitions=_pool(found),
            accounts=tuple(Account(name, default=False) for name in re.split(r"[\s,]+", text("groups").strip()) if re.fullmatch(r"[\w.@-]+", name)),
            accounting=True if history.code == 0 else False if history.code == 127 else None,
            trouble=failure("condor_q", parts.get("condor.asked", Part(""))),
            charges=False,
            shared=shared,
            notes=(*notes, *_retirement(found)),
        )


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots that are alike."""

    number: int
    cpus: int
    memory: int
    """Bytes."""
    gpus: int
    domain: str
    retirement: int | None
    """Seconds that a job which shall leave may go on; None: it is not a number."""


def slots(text: str) -> list[Slots]:
    """From ``condor_status -af:t ... | uniq -c``. What no job may start on is left out."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*([0-9]+)\s(.*)\Z", line)
        fields = match[2].split("\t") if match else []
        if match is None or len(fields) != len(_FIELDS) or fields[7] == "false":
            continue
        cpus, memory, gpus = (_number(fields[at]) for at in range(3))
        cpus = _number(fields[5]) if cpus is None else cpus  # before 8.9 only slots that are divided said both
        memory = _number(fields[6]) if memory is None else memory
        if cpus and memory is not None:
            found.append(Slots(int(match[1]), cpus, memory * 2**20, gpus or 0, fields[3].lower(), _number(fields[4])))
    return found


def _number(text: str) -> int | None:
    return int(float(text)) if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text.strip()) else None


def _pool(found: Sequence[Slots]) -> tuple[Partition, ...]:
    """The pool as one: as large a slot as at least half of its cpus are in, for small ones may be many."""
    if not found:
        return ()
    half, gathered, cpus = sum(one.number * one.cpus for one in found) / 2, 0, 1
    for one in sorted(found, key=lambda one: -one.cpus):
        gathered, cpus = gathered + one.number * one.cpus, one.cpus
        if gathered >= half:
            break
    memory = min(one.memory * cpus // one.cpus for one in found if one.cpus >= cpus)
    number, gpus, largest = sum(one.number for one in found), max(one.gpus for one in found), max(one.cpus for one in found)
    return (Partition("", default=True, open=True, limit=None, nodes=number, cpus=cpus, memory=memory, gpus=gpus, largest=largest),)


def _shared(found: Sequence[Slots], domain: str) -> tuple[bool | None, list[str]]:
    """Whether a job that transfers no files can run, as HTCondor itself decides it: by the names of the domains."""
    if not found or not domain:
        return None, []
    number = sum(one.number for one in found)
    same = sum(one.number for one in found if one.domain == domain.lower())
    if same == number:
        return True, []
    if same == 0:
        return False, [f"the pool's machines share no files with this one (FILESYSTEM_DOMAIN, here {domain}): each job takes its tasks along and brings back "
                       "what they made"]  # fmt: skip
    return True, [f"{same} of {number} slots share files with this machine, and only those are used; `shared = false` would use all, by file transfer"]


def _retirement(found: Sequence[Slots]) -> list[str]:
    """How long a job is left alone, where that is a promise."""
    times = [one.retirement for one in found]
    least = min((one for one in times if one is not None), default=0)
    if None in times or least < 600:
        return []
    return [f"a job that others displace may go on for {least // 3600} h {least % 3600 // 60:02} min: a shorter --walltime loses nothing then"]

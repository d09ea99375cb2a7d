"""LSF as it shows itself: queues, their limits, hosts (hides bqueues, lshosts and their formats)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from icp.backends.survey.batch import Batch, Part, Partition, failure

__all__ = ["Host", "LsfLook", "hosts", "queues"]


class LsfLook:
    """IBM Spectrum LSF. Written after its documentation: no real one was asked."""

    scheduler = "lsf"
    command = "bsub"
    script = "run lsf.version bsub -V; run lsf.queues bqueues -l; run lsf.hosts lshosts -w; run lsf.default bparams"

    def read(self, parts: Mapping[str, Part]) -> Batch:
        listed, shown = parts.get("lsf.queues", Part("")), parts.get("lsf.hosts", Part(""))
        number = re.search(r"\d+(?:\.\d+)+", parts.get("lsf.version", Part("")).text)
        default = re.search(r"^Default Queues:\s*(\S+)", parts.get("lsf.default", Part("")).text, re.MULTILINE)
        user = (parts.get("id", Part("")).first or "").strip()
        known = hosts(shown.text) if shown.code == 0 else {}
        found = queues(listed.text, known, user, default[1] if default else "") if listed.code == 0 else []
        return Batch(
            version=number[0] if number else "",
            partitions=tuple(sorted(found, key=lambda one: not one.default)),
            trouble=failure("bqueues", listed),
        )


@dataclass(frozen=True, slots=True)
class Host:
    """A server of the cluster."""

    cpus: int
    memory: int | None


def hosts(text: str) -> dict[str, Host]:
    """From ``lshosts -w``: HOST_NAME type model cpuf ncpus maxmem maxswp server RESOURCES."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 8 and words[4].isdigit() and words[7] == "Yes":
            found[words[0]] = Host(int(words[4]), _size(words[5]))
    return found


def _size(text: str) -> int | None:
    match = re.fullmatch(r"([0-9.]+)([MGT])", text)
    return int(float(match[1]) * 2 ** {"M": 20, "G": 30, "T": 40}[match[2]]) if match else None


def queues(text: str, known: Mapping[str, Host], user: str, default: str) -> list[Partition]:
    """From ``bqueues -l``: one section for each queue."""
    found = []
    for section in re.split(r"^QUEUE:\s*", text, flags=re.MULTILINE)[1:]:
        name = section.split(None, 1)[0]
        status = re.search(r"\b(Open|Closed):(Active|Inact\w*)", section)
        users, where = _line(section, "USERS"), _line(section, "HOSTS")
        names = [one.rstrip("/").partition("+")[0] for one in where.split()]
        # groups of hosts are not looked into: they may be any
        own = [known[one] for one in names] if names and all(one in known for one in names) else list(known.values())
        cpus = sorted(one.cpus for one in own) or [1]
        # a group of users, which ends in a slash, may have this one
        allowed = not users or users.startswith("all") or any(one == user or one.endswith("/") for one in users.split())
        found.append(Partition(
            name, name == default or "default queue" in section.partition("PARAMETERS")[0], bool(status and status[0] == "Open:Active") and allowed,
            _limit(section), len(own), cpus[0], min((one.memory for one in own if one.memory), default=None), 0, None, cpus[-1],
        ))  # fmt: skip
    return found


def _line(section: str, key: str) -> str:
    match = re.search(rf"^{key}:\s*(.*)$", section, re.MULTILINE)
    return match[1].strip() if match else ""


def _limit(section: str) -> int | None:
    """Seconds of the largest RUNLIMIT: behind MAXIMUM LIMITS where defaults are shown as well. ``1440.0 min of hostA``."""
    section = section[section.rfind("MAXIMUM LIMITS") :] if "MAXIMUM LIMITS" in section else section
    match = re.search(r"^\s*RUNLIMIT\s*\n\s*([0-9.]+) min", section, re.MULTILINE)
    return int(float(match[1]) * 60) if match else None

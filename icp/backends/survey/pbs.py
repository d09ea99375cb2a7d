"""PBS Professional, OpenPBS and Torque as they show themselves: queues, nodes, limits (hides qstat -Q, qstat -B, pbsnodes and their formats)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from icp.backends.batch.listing import seconds
from icp.backends.survey.batch import Batch, Part, Partition, failure

__all__ = ["Node", "PbsLook", "TorqueLook", "nodes", "records", "size"]

_SEEN = "^[^[:blank:]]|^[[:blank:]]+(state|queue|np|pcpus|gpus|properties|status|resources_available[.][A-Za-z_]+) = "
"""What is needed of a node: of thousands, with all that they say, would be megabytes."""


def records(text: str) -> dict[str, dict[str, str]]:
    """``qstat -Qf``, ``qstat -Bf``, ``pbsnodes -a``: name -> attributes. A line that begins with a tab and is no attribute goes on with the last one."""
    found: dict[str, dict[str, str]] = {}
    name, last = "", ""
    for line in text.splitlines():
        if head := re.match(r"(?:(?:Queue|Server):\s*)?([A-Za-z0-9_][A-Za-z0-9_.:@\[\]-]*)\s*$", line):
            name, last = head[1], ""
            found[name] = {}
        elif name and (attribute := re.match(r"\s+([A-Za-z_][\w.]*) = (.*)$", line)):
            last = attribute[1]
            found[name][last] = attribute[2].strip()
        elif name and last and line.startswith("\t"):
            found[name][last] += line.strip()
    return found


def size(text: str) -> int | None:
    """``24684092kb``, ``187gb``, ``16000mb``, ``512``: bytes."""
    match = re.fullmatch(r"([0-9]+)([kmgtp]?)([bw]?)", text.strip().lower())
    return int(match[1]) * 1024 ** (" kmgtp".index(match[2] or " ")) * (8 if match[3] == "w" else 1) if match else None


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "yes", "y", "1", "t")


def _list(text: str) -> list[str]:
    return [one for one in re.split(r"[\s,]+", text.strip()) if one]


@dataclass(frozen=True, slots=True)
class Node:
    """One node, or the part of it that is scheduled."""

    cpus: int
    memory: int | None
    gpus: int
    queue: str = ""
    """Only this one's jobs run there."""
    has: Mapping[str, str] = field(default_factory=dict)
    """Resources and properties by which queues choose nodes."""


_GONE = ("down", "offline", "unknown", "stale", "state-unknown", "maintenance", "initializing", "sleep")


def nodes(text: str) -> list[Node]:
    """From ``pbsnodes -a``, of either: those that can run something."""
    found = []
    for row in records(text).values():
        if "state" not in row or set(_list(row["state"])) & set(_GONE):
            continue
        status = dict(one.partition("=")[::2] for one in row.get("status", "").split(","))
        cpus = row.get("resources_available.ncpus") or row.get("np") or status.get("ncpus") or row.get("pcpus") or ""
        memory = row.get("resources_available.mem") or status.get("physmem") or status.get("availmem") or ""
        gpus = row.get("resources_available.ngpus") or row.get("gpus") or "0"
        if not cpus.isdigit() or not int(cpus):
            continue
        has = {name.partition(".")[2]: value for name, value in row.items() if name.startswith("resources_available.")}
        has |= dict.fromkeys(_list(row.get("properties", "")), "True")
        found.append(Node(int(cpus), size(memory), int(gpus) if gpus.isdigit() else 0, row.get("queue", ""), has))
    return found


class PbsLook:
    """PBS Professional and OpenPBS, which ``pbs_rstat`` tells from Torque."""

    scheduler = "pbs"
    command = "pbs_rstat"
    script = (
        "run pbs.version qstat --version; "
        "run pbs.server qstat -Bf; "
        "run pbs.queues qstat -Qf; "
        f"run pbs.nodes sh -c \"pbsnodes -a | grep -E '{_SEEN}'\"; "
        "run pbs.groups id -Gn"
    )

    def read(self, parts: Mapping[str, Part]) -> Batch:
        queues, server = self._part(parts, "queues"), self._part(parts, "server")
        about = next(iter(records(server.text if server.code == 0 else "").values()), {})
        number = re.search(r"\d+(?:\.\d+)+", about.get("pbs_version", "") or self._part(parts, "version").text)
        user, groups = (parts.get("id", Part("")).first or "").strip(), self._part(parts, "groups").text.split()
        known = nodes(self._part(parts, "nodes").text) if self._part(parts, "nodes").code == 0 else []
        listed = self._queues(parts) if queues.code == 0 else {}
        found = [self._partition(name, row, listed, known, about, (user, groups)) for name, row in listed.items()]
        return Batch(
            version=number[0] if number else "",
            partitions=tuple(sorted(found, key=lambda one: not one.default)),
            accounting=self._accounting(about),
            trouble=failure("qstat", queues),
        )

    def _part(self, parts: Mapping[str, Part], name: str) -> Part:
        return parts.get(f"{self.scheduler}.{name}", Part(""))

    def _queues(self, parts: Mapping[str, Part]) -> dict[str, dict[str, str]]:
        return records(self._part(parts, "queues").text)

    def _accounting(self, server: Mapping[str, str]) -> bool | None:
        """Whether ended jobs are kept where ``qstat -x`` finds them."""
        return _true(server.get("job_history_enable", "False")) if server else None

    def _partition(
        self, name: str, row: Mapping[str, str], queues: Mapping[str, Mapping[str, str]], known: Sequence[Node], server: Mapping[str, str],
        who: tuple[str, Sequence[str]],
    ) -> Partition:  # fmt: skip
        ends = [one for one in _list(row.get("route_destinations", "")) if one in queues] if row.get("queue_type", "").lower().startswith("r") else []
        reached = {one: self._nodes(one, queues[one], known) for one in ends or [name]}
        own = [node for node in known if any(node is one for found in reached.values() for one in found)]

        def share(node: Node, resource: str, number: int) -> int:
            """What a job may have of it. Of the queues behind a routing queue the most generous takes the job; what none takes is thrown away unseen."""
            ways = [queues[one] for one, found in reached.items() if any(node is other for other in found)]
            return _within(max(_within(number, way, server, resource) for way in ways), row, server, resource)

        cpus = sorted(share(node, "ncpus", node.cpus) for node in own) or [1]
        memories = [share(node, "mem", node.memory) for node in own if node.memory is not None]
        gpus = max((share(node, "ngpus", node.gpus) for node in own), default=0)
        limits = [self._limit(queues[one], server) for one in ends or [name]]
        if ends:
            limits = [max((one for one in limits if one is not None), default=None) if None not in limits else None, self._limit(row, server)]
        usable = _true(row.get("enabled", "")) and _true(row.get("started", "")) and not _true(row.get("from_route_only", "")) and _may(row, *who)
        return Partition(
            name, name == server.get("default_queue"), usable and bool(own or not known), min((one for one in limits if one is not None), default=None),
            len(own), cpus[0], min(memories, default=None), gpus, None, cpus[-1],
        )  # fmt: skip

    def _limit(self, row: Mapping[str, str], server: Mapping[str, str]) -> int | None:
        limit = seconds(_most(row, server, "walltime"))
        return None if limit is None else int(limit)

    def _nodes(self, name: str, row: Mapping[str, str], known: Iterable[Node]) -> list[Node]:
        """Those that its jobs run on: the ones given to it, or else all that are nobody's and have what it asks for on behalf of each job."""
        asked = {key.partition(".")[2]: value for key, value in row.items() if key.startswith("default_chunk.")}
        given = [node for node in known if node.queue == name]
        return given or [
            node for node in known
            if not node.queue and all(value in _list(node.has[key]) for key, value in asked.items() if key in node.has)
            and not ("Qlist" in asked and "Qlist" not in node.has)
        ]  # fmt: skip


def _most(row: Mapping[str, str], server: Mapping[str, str], resource: str) -> str:
    return row.get(f"resources_max.{resource}") or server.get(f"resources_max.{resource}") or ""


def _within(number: int, row: Mapping[str, str], server: Mapping[str, str], resource: str) -> int:
    """No more than a job of the queue may ask for, nor than all its jobs together may have."""
    bounds = [size(one) for one in (_most(row, server, resource), row.get(f"resources_available.{resource}", ""))]
    return min([number, *(one for one in bounds if one)])


def _may(row: Mapping[str, str], user: str, groups: Sequence[str]) -> bool:
    """Whether the queue's lists of users and groups let this person in."""
    for kind, names in (("user", [user]), ("group", list(groups))):
        listed = [one.partition("@")[0] for one in _list(row.get(f"acl_{kind}s", ""))]
        if not _true(row.get(f"acl_{kind}_enable", "")) or "+" in listed:
            continue
        if any(f"-{one}" in listed for one in names) or not any(one in listed or f"+{one}" in listed for one in names):
            return False
    return True


class TorqueLook(PbsLook):
    """Torque, and its commands over SLURM, which tell of the server nothing and of a queue's limit in one listing only."""

    scheduler = "torque"
    command = "pbsnodes"
    script = (
        "run torque.version qstat --version; "
        "run torque.server qstat -Bf; "
        "run torque.queues qstat -Q -f; "
        "run torque.limits qstat -q; "
        f"run torque.nodes sh -c \"pbsnodes -a | grep -E '{_SEEN}'\"; "
        "run torque.groups id -Gn"
    )

    def _queues(self, parts: Mapping[str, Part]) -> dict[str, dict[str, str]]:
        """With what ``qstat -q`` shows of their limits: a line ``batch  --  --  24:00:00  --  0  0  --  E R`` each."""
        found = records(self._part(parts, "queues").text)
        for line in self._part(parts, "limits").lines:
            words = line.split()
            if len(words) >= 9 and words[0] in found and seconds(words[3]) is not None:
                found[words[0]].setdefault("resources_max.walltime", words[3])
        return found

    def _accounting(self, server: Mapping[str, str]) -> bool | None:  # noqa: ARG002
        return None

    def _nodes(self, name: str, row: Mapping[str, str], known: Iterable[Node]) -> list[Node]:
        """With the properties that the queue's jobs need."""
        needed = [one for one in row.get("resources_default.neednodes", "").split(":") if one and not one.isdigit() and "=" not in one]
        return [node for node in super()._nodes(name, row, known) if all(one in node.has for one in needed)]

"""Grid Engine as it shows itself: queues, their nodes, parallel environments, resources, projects (hides qconf, qhost and their formats)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from icp.backends.survey.batch import Account, Batch, Part, Partition, failure

__all__ = ["GridEngineLook", "records", "seconds", "size"]

_MOST = 60
"""Nodes, parallel environments and projects that are looked at one by one: each is a command."""
_MEMORY = ("mem_free", "m_mem_free", "h_vmem", "virtual_free", "h_rss", "mem", "memory", "ram", "s_vmem")
_GPU = ("gpu", "gpus", "ngpus", "ngpu", "num_gpu", "num_gpus", "gpu_count", "gpu_card", "gpucard", "cuda")
"""What sites call the memory, and the gpus, that jobs ask for and use up, the most usual name first."""
_ENTITY = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


class GridEngineLook:
    """Sun, Son of, Open and Univa Grid Engine, which ``qconf`` tells from what else has a ``qsub``."""

    scheduler = "sge"
    command = "qconf"
    script = (
        "run sge.version qstat -help; "
        "run sge.names qconf -sql; "
        "run sge.queues qconf -sq '*'; "
        "run sge.hosts qhost -q -F -xml; "
        f"run sge.have sh -c 'for h in $(qconf -sel | head -n {_MOST}); do qconf -se $h; done'; "
        f"run sge.pes sh -c 'for p in $(qconf -spl | head -n {_MOST}); do qconf -sp $p; done'; "
        "run sge.complexes qconf -sc; "
        "run sge.config sh -c \"qconf -sconf global | grep -E '^(enforce_project|projects) '\"; "
        f"run sge.projects sh -c 'for p in $(qconf -sprjl 2>/dev/null | head -n {_MOST}); do qconf -sprj $p; done'; "
        "run sge.lists sh -c 'for l in $(qconf -sul 2>/dev/null); do qconf -su $l; done'; "
        'run sge.user qconf -suser "$(id -un)"; '
        "run sge.groups id -Gn; "
        'run sge.qacct qacct -o "$(id -un)" -d 1'
    )

    def read(self, parts: Mapping[str, Part]) -> Batch:
        def text(name: str) -> str:
            part = parts.get(f"sge.{name}", Part(""))
            return part.text if part.code == 0 else ""

        user = (parts.get("id", Part("")).first or "").strip()
        who = _Who(user, text("groups").split(), records(text("lists"), "name"))
        number = re.search(r"\d+(?:\.\d+)+", parts.get("sge.version", Part("")).text)
        pes, resources = records(text("pes"), "pe_name"), _resources(text("complexes"))
        config = dict(line.split(None, 1) for line in text("config").splitlines() if len(line.split(None, 1)) == 2)
        nodes = _nodes(text("hosts"), text("have"))
        asked = ("h_rt", _used_up(resources, _MEMORY, ""))
        forced = sorted(name for name, one in resources.items() if one.forced and name not in asked)
        qacct = parts.get("sge.qacct", Part(""))
        found = [_partition(row, nodes, who, pes, resources) for row in records(text("queues"), "qname")]
        return Batch(
            version=number[0] if number else "",
            partitions=tuple(sorted(found, key=lambda one: not one.default)),
            accounts=tuple(_projects(text("projects"), text("user"), who)),
            # its file is there once a job has ended; where it lacks nobody knows whether it will be
            accounting=True if qacct.code == 0 else False if qacct.code == 127 else None,
            trouble=failure("qconf", parts.get("sge.names", Part(""))),
            need_account=config.get("enforce_project", "").strip().lower() == "true",
            charges=config.get("enforce_project", "").strip().lower() == "true",
            notes=tuple(f"the site wants each job to ask for {name}: `icp config set site.NAME.pilot.constraint {name}=...`" for name in forced),
        )


@dataclass(frozen=True, slots=True)
class _Who:
    """A person, as access lists know one."""

    user: str
    groups: Sequence[str]
    lists: Sequence[Mapping[str, str]]

    def on(self, names: str) -> bool:
        """Whether one of these lists has this person. A list that nobody can see has everybody."""
        known = {one["name"]: one.get("entries", "") for one in self.lists}
        return any(
            name not in known or self.user in (entries := _words(known[name])) or any(f"@{group}" in entries for group in self.groups)
            for name in _words(names)
        )

    def may(self, allowed: str, denied: str) -> bool:
        return (_none(allowed) or self.on(allowed)) and (_none(denied) or not self.on(denied))


def _none(text: str) -> bool:
    return text.strip().upper() in ("", "NONE")


def _words(text: str) -> list[str]:
    return [] if _none(text) else [one for one in re.split(r"[\s,]+", text.strip()) if one]


def records(text: str, first: str) -> list[dict[str, str]]:
    """What ``qconf -s...`` shows of several things, each beginning with the key ``first``. A line that ends in a backslash goes on."""
    found: list[dict[str, str]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        words = line.split(None, 1)
        if not words:
            continue
        if words[0] == first:
            found.append({})
        if found:
            found[-1][words[0]] = words[1].strip() if len(words) > 1 else ""
    return found


def seconds(text: str) -> int | None:
    """``24:00:00``, ``86400``, ``INFINITY``; what holds for all nodes, of ``24:00:00,[node7=48:00:00]``. None: no limit."""
    fields = text.partition(",")[0].strip().split(":")
    if not all(one.isdigit() for one in fields) or len(fields) > 3:
        return None
    total = 0
    for one in fields:
        total = total * 60 + int(one)
    return total


def size(text: str) -> int | None:
    """``23.541G``, ``512.0M``: bytes. Small letters are powers of 1000."""
    match = re.fullmatch(r"([0-9.]+)([KMGTkmgt]?)", text.strip())
    if match is None:
        return None
    factor = 1024 if match[2].isupper() else 1000
    return int(float(match[1]) * factor ** ("kmgt".index(match[2].lower()) + 1 if match[2] else 0))


@dataclass(slots=True)
class _Resource:
    requested: bool
    forced: bool
    consumed: bool
    """Counted for each slot: what runs leaves less of it."""


def _resources(text: str) -> dict[str, _Resource]:
    """From ``qconf -sc``: name -> how jobs may ask for it."""
    found: dict[str, _Resource] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 8 and not line.startswith("#"):
            found[words[0]] = _Resource(words[4] in ("YES", "FORCED"), words[4] == "FORCED", words[5] == "YES")
    return found


def _used_up(resources: Mapping[str, _Resource], names: Iterable[str], default: str) -> str:
    """Of these resources the first that jobs use up."""
    return next((name for name in names if name in resources and resources[name].requested and resources[name].consumed), default)


@dataclass(slots=True)
class _Node:
    cpus: int
    memory: int | None
    has: dict[str, str] = field(default_factory=dict)
    """What the site says that jobs can use up there, as a whole."""
    slots: dict[str, int] = field(default_factory=dict)
    """Of each queue that it is in and that can start something there."""


def _values(text: str) -> dict[str, str]:
    """``gpu=4,h_vmem=20G,[node7=gpu=8]``: what holds for all nodes."""
    return dict(one.strip().partition("=")[::2] for one in re.sub(r"\[.*", "", text).split(",") if "=" in one)


def _nodes(text: str, more: str) -> dict[str, _Node]:
    """From ``qhost -q -F -xml`` and, of the first ones, ``qconf -se``: host -> what it has."""
    whole = {row["hostname"]: _values(row.get("complex_values", "")) for row in records(more, "hostname")}
    begin, end = text.find("<?xml"), text.rfind("</qhost>")
    if begin < 0 or end < 0 or _ENTITY.search(text):
        return {}
    try:
        root = ET.fromstring(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]", "?", text[begin:end]) + "</qhost>")  # noqa: S314  entities are refused above
    except ET.ParseError:
        return {}
    found: dict[str, _Node] = {}
    for host in root.iter("host"):
        said = {str(one.get("name")): one.text or "" for one in host.iter("hostvalue")}
        if not said.get("num_proc", "").isdigit():
            continue
        node = found[str(host.get("name"))] = _Node(int(said["num_proc"]), size(said.get("mem_total", "")))
        # what is left of it now, where the whole is not known
        node.has = {str(one.get("name")): one.text or "" for one in host.iter("resourcevalue") if (one.get("dominance") or "").endswith("c")}
        node.has |= whole.get(str(host.get("name")), {})
        for queue in host.iter("queue"):
            values = {str(one.get("name")): one.text or "" for one in queue.iter("queuevalue")}
            if values.get("slots", "").isdigit() and not set(values.get("state_string", "")) & set("duEcsDo"):
                node.slots[str(queue.get("name"))] = int(values["slots"])
    return found


def _partition(
    row: Mapping[str, str], nodes: Mapping[str, _Node], who: _Who, pes: Sequence[Mapping[str, str]], resources: Mapping[str, _Resource]
) -> Partition:  # fmt: skip
    name = row["qname"]
    own = [(node, min(node.slots[name], node.cpus) or 1) for node in nodes.values() if node.slots.get(name)]
    # slots are what is given; of more slots than cpus a pilot has no use
    cpus = sorted(count for _, count in own) or [seconds(row.get("slots", "")) or 1]
    memory, gpu = _used_up(resources, _MEMORY, "mem_free"), next((one for one in _GPU if one in resources and resources[one].requested), "")
    # where the site says nothing, what the node itself takes is never free
    memories = [size(node.has.get(memory, "")) or node.memory * 9 // 10 for node, _ in own if node.memory]
    gpus = [int(float(said)) for said in (_values(row.get("complex_values", "")).get(gpu, ""), *(node.has.get(gpu, "") for node, _ in own))
            if re.fullmatch(r"[0-9.]+", said)]  # fmt: skip
    limits = [limit for key in ("h_rt", "s_rt") if (limit := seconds(row.get(key, ""))) is not None]
    pe = _pe(row.get("pe_list", ""), pes, who)
    options = {"pe": pe, "memory_resource": memory, "gpu_resource": gpu}
    usual = {"pe": ("smp", None), "memory_resource": ("mem_free",), "gpu_resource": ("gpu", "")}
    allowed = who.may(row.get("user_lists", ""), row.get("xuser_lists", ""))
    projects = _words(row.get("projects", ""))
    return Partition(
        name, name == "all.q", bool(own) and allowed and "BATCH" in row.get("qtype", "BATCH").upper(), min(limits, default=None), len(own),
        cpus[0] if pe else 1, min(memories, default=None) if pe or not memories else min(memories) // max(1, cpus[0]),
        max(gpus, default=0), tuple(projects) or None, cpus[-1],
        {key: value for key, value in options.items() if value is not None and value not in usual[key]},
    )  # fmt: skip


def _pe(listed: str, pes: Sequence[Mapping[str, str]], who: _Who) -> str | None:
    """The parallel environment that gives several slots of one node: the usual one, or else the first; None: there is none."""
    known = {one["pe_name"]: one for one in pes}
    fit = [
        name for name in dict.fromkeys(re.sub(r"[\[\]=,]", " ", listed).split())
        if name in known and known[name].get("allocation_rule") == "$pe_slots" and known[name].get("slots") != "0"
        and who.may(known[name].get("user_lists", ""), known[name].get("xuser_lists", ""))
    ]  # fmt: skip
    return "smp" if "smp" in fit else fit[0] if fit else None


def _projects(text: str, user: str, who: _Who) -> list[Account]:
    """Those that this person may charge, the own default first."""
    row = next(iter(records(user, "name")), {})
    default = row.get("default_project", "NONE")
    names = [one["name"] for one in records(text, "name") if who.may(one.get("acl", ""), one.get("xacl", ""))]
    if not _none(default) and default not in names:
        names.append(default)
    return sorted((Account(name, name == default) for name in names), key=lambda one: not one.default)

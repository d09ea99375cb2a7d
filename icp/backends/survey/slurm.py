"""SLURM as it shows itself: partitions, accounts, limits (hides sinfo, scontrol, sacctmgr and their formats)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from icp.backends.batch.slurm import NO_ACCOUNTING
from icp.backends.survey.batch import Account, Batch, Part, Partition, failure

__all__ = ["SlurmLook", "accounts", "partitions", "seconds"]

_NODES = "%R|%a|%l|%D|%c|%m|%G|%P"
_ASSOC = "cluster,account,partition,qos,defaultqos,maxwall"


class SlurmLook:
    """One line for each partition and kind of node; associations where there is accounting."""

    scheduler = "slurm"
    command = "sbatch"
    script = (
        "run slurm.version sbatch --version; "
        f"run slurm.nodes env -u SINFO_PARTITION -u SINFO_SORT sinfo -h -e -o '{_NODES}'; "
        "run slurm.partitions scontrol -o show partition; "
        "run slurm.config sh -c \"scontrol show config | grep -E '^(ClusterName|AccountingStorage(Enforce|Type)) '\"; "
        f'run slurm.assoc sacctmgr -nP show assoc where "user=$(id -un)" format={_ASSOC}; '
        'run slurm.user sacctmgr -nP show user where "name=$(id -un)" format=defaultaccount; '
        "run slurm.sacct sacct -nXP -S now -o JobIDRaw"
    )

    def read(self, parts: Mapping[str, Part]) -> Batch:
        nodes, more = parts.get("slurm.nodes", Part("")), parts.get("slurm.partitions", Part(""))
        config = parts.get("slurm.config", Part("")).text
        cluster = re.search(r"ClusterName\s*=\s*(\S+)", config)
        enforce = re.search(r"AccountingStorageEnforce\s*=\s*(\S+)", config)
        assoc, user, sacct = (parts.get(f"slurm.{name}", Part("")) for name in ("assoc", "user", "sacct"))
        known = accounts(assoc.text if assoc.code == 0 else "", (user.first or "") if user.code == 0 else "", cluster[1] if cluster else None)
        version = parts.get("slurm.version", Part("")).first or ""
        return Batch(
            version=version.removeprefix("slurm-wlm ").removeprefix("slurm "),
            partitions=partitions(nodes.text if nodes.code == 0 else "", more.text if more.code == 0 else ""),
            accounts=known,
            accounting=True if sacct.code == 0 else False if NO_ACCOUNTING.search(sacct.text) or sacct.code == 127 else None,
            trouble=failure("sinfo", nodes),
            need_account=bool(enforce and "associations" in enforce[1]),
        )


def seconds(text: str) -> int | None:
    """``1-00:00:00``, ``30:00``, ``infinite``: seconds, None without a limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        return None
    days, rest = int(match[1] or 0), [int(one) for one in match.groups()[1:] if one is not None]
    if match[1] is not None:  # D-H, D-H:M, D-H:M:S
        hours, minutes, secs = [*rest, 0, 0][:3]
    elif len(rest) == 3:
        hours, minutes, secs = rest
    else:  # M, M:S
        hours, minutes, secs = 0, rest[0], rest[1] if len(rest) > 1 else 0
    return ((days * 24 + hours) * 60 + minutes) * 60 + secs


def partitions(nodes: str, more: str = "") -> tuple[Partition, ...]:
    """From ``sinfo -h -e -o`` and ``scontrol -o show partition``: in sinfo's order, the default first."""
    limits = {words["PartitionName"]: words for line in more.splitlines() if "PartitionName" in (words := _words(line))}
    found: dict[str, Partition] = {}
    for line in nodes.splitlines():
        fields = line.split("|")
        if len(fields) != 8:
            continue
        name, up, limit, count, cpus, memory, gres, starred = fields
        if not re.fullmatch(r"\d+\+?", cpus):
            continue
        size, mib = int(cpus.rstrip("+")), re.match(r"\d+", memory)
        own = limits.get(name, {})
        allowed = own.get("AllowAccounts", "ALL")
        most = own.get("MaxCPUsPerNode", "")
        if most.isdigit():
            size = min(size, int(most))
        one = Partition(
            name, starred.endswith("*"), up == "up" and own.get("RootOnly") != "YES", seconds(limit), _count(count), size,
            int(mib[0]) * 2**20 if mib else None, _gpus(gres), None if allowed.upper() == "ALL" else tuple(allowed.split(",")), size,
        )  # fmt: skip
        before = found.get(name)
        if before is not None:
            sizes = [value for value in (before.memory, one.memory) if value is not None]
            one = Partition(
                name, one.default, one.open, one.limit, before.nodes + one.nodes, min(before.cpus, one.cpus),
                min(sizes) if sizes else None, max(before.gpus, one.gpus), one.accounts, max(before.largest or 0, size),
            )  # fmt: skip
        found[name] = one
    return tuple(sorted(found.values(), key=lambda one: not one.default))


def _words(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _count(text: str) -> int:
    """``1.2K`` nodes is what large machines say."""
    match = re.fullmatch(r"([\d.]+)([KM]?)", text)
    return int(float(match[1]) * {"": 1, "K": 1024, "M": 1024**2}[match[2]]) if match else 0


def _gpus(gres: str) -> int:
    """``gpu:a100:4(S:0-1),nvme:1`` has 4."""
    return sum(int(match[1]) for match in re.finditer(r"(?:^|,)gpu(?::[^,:()]+)?:(\d+)", gres))


def accounts(assoc: str, default: str, cluster: str | None) -> tuple[Account, ...]:
    """From ``sacctmgr -nP show assoc``: those of this cluster, the default first; one for each account and partition."""
    found: dict[tuple[str, str | None], Account] = {}
    for line in assoc.splitlines():
        fields = line.split("|")
        if len(fields) != 6 or not fields[1] or (cluster and fields[0] and fields[0] != cluster):
            continue
        _, name, partition, qos, _, wall = fields
        key = (name, partition or None)
        found[key] = Account(name, name == default.strip(), partition or None, tuple(one.lstrip("+") for one in qos.split(",") if one), seconds(wall))
    return tuple(sorted(found.values(), key=lambda one: not one.default))

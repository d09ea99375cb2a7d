"""What this node offers an agent: the smallest of what cgroups, affinity, batch system and pilot allow (hides
where each is written).
"""

import json
import os
import sys

from . import node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["OutOfMemory", "attributes", "choose_scratch", "cpus", "disk", "gpus", "memory", "platform_name", "probe"]

_BATCH = ("SLURM_JOB_ID", "PBS_JOBID", "_CONDOR_SCRATCH_DIR", "JOB_ID", "LSB_JOBID")
_CPU_VARIABLES = ("SLURM_CPUS_ON_NODE", "NCPUS", "NSLOTS")


def _first_line(path: str) -> str:
    try:
        with open(path) as stream:
            return stream.readline().strip()
    except OSError:
        return ""


def _cgroup_folders(controller: str) -> "list[str]":
    """The folders of our cgroup and its parents for a controller; version 2 has the name ''."""
    path = None
    try:
        with open("/proc/self/cgroup") as stream:
            for entry in stream:
                _, names, where = entry.rstrip("\n").split(":", 2)
                if controller in names.split(",") or (not controller and not names):
                    path = where
    except (OSError, ValueError):
        pass
    if path is None:
        return []
    base = "/sys/fs/cgroup" + ("/" + controller if controller else "")
    if not controller and not os.path.exists(base + "/cgroup.controllers"):
        base = "/sys/fs/cgroup/unified"
    folders = []
    while True:
        folders.append(base + path.rstrip("/"))
        if path in ("/", ""):
            return folders
        path = os.path.dirname(path)


def _cgroup_memory() -> "int | None":
    texts = [_first_line(one + "/memory.max") for one in _cgroup_folders("")]
    texts += [_first_line(one + "/memory.limit_in_bytes") for one in _cgroup_folders("memory")]
    limits = [int(text) for text in texts if text.isdigit() and int(text) < 1 << 60]
    return min(limits) if limits else None


class OutOfMemory:
    """The kernel's count of processes that it killed in our cgroups for want of memory."""

    def __init__(self) -> None:
        self._paths = [one + "/memory.events" for one in _cgroup_folders("")]
        self._paths += [one + "/memory.oom_control" for one in _cgroup_folders("memory")]
        self._last = self._count()

    def _count(self) -> int:
        total = 0
        for path in self._paths:
            try:
                with open(path) as stream:
                    total += sum(int(text.split()[1]) for text in stream if text.startswith("oom_kill "))
            except (OSError, ValueError, IndexError):
                pass
        return total

    def happened(self) -> bool:
        """Whether the count has grown since this was asked last."""
        before, self._last = self._last, self._count()
        return self._last > before


def _cgroup_cpus() -> "int | None":
    quotas = []
    for one in _cgroup_folders(""):
        fields = _first_line(one + "/cpu.max").split()
        if len(fields) == 2 and fields[0].isdigit():
            quotas.append(int(fields[0]) / float(fields[1]))
    for one in _cgroup_folders("cpu"):
        quota, period = _first_line(one + "/cpu.cfs_quota_us"), _first_line(one + "/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / float(period))
    return max(1, int(min(quotas) + 0.5)) if quotas else None


def in_batch_job() -> bool:
    return any(name in os.environ for name in _BATCH)


def cpus(given: "int | None") -> int:
    """How many tasks of one cpu may run side by side."""
    found = [len(os.sched_getaffinity(0))]
    quota = _cgroup_cpus()
    if quota:
        found.append(quota)
    if in_batch_job():
        found += [int(os.environ[name]) for name in _CPU_VARIABLES if os.environ.get(name, "").isdigit()]
    # What was ordered counts, even where this machine has less: a test, or a site that shares its processors.
    return given if given else max(1, min(found))


def memory(given: "int | None", slots: int) -> int:
    """Bytes for all tasks together."""
    if given:
        return given
    found = []
    limit = _cgroup_memory()
    if limit:
        found.append(limit)
    for name, factor in (("SLURM_MEM_PER_NODE", 1), ("SLURM_MEM_PER_CPU", slots)):
        if os.environ.get(name, "").isdigit() and int(os.environ[name]):
            found.append(int(os.environ[name]) * factor << 20)
    with open("/proc/meminfo") as stream:
        known = {fields[0]: int(fields[1]) << 10 for fields in map(str.split, stream) if len(fields) == 3}
    found.append(known.get("MemTotal:", 1 << 31) if found else known.get("MemAvailable:", 1 << 31))
    return min(found)


def disk(given: "int | None", folder: str) -> int:
    """Bytes for the working directories of all tasks together: not more than nine tenths of what is free."""
    free = free_bytes(folder) * 9 // 10
    return min(given, free) if given else free


def free_bytes(folder: str) -> int:
    """Bytes that are free for us in the file system of an existing directory."""
    info = os.statvfs(folder)
    return info.f_bavail * info.f_frsize


def gpus(given: "int | None") -> "list[str]":
    """What CUDA_VISIBLE_DEVICES may hold: what the batch system gave, or 0, 1, ... up to what was ordered."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    visible = [one.strip() for one in text.split(",") if one.strip()]
    if visible and visible[0] in ("-1", "NoDevFiles"):
        visible = []
    if given is None:
        return visible
    return visible[:given] if len(visible) >= given else [str(one) for one in range(given)]


def choose_scratch(configured: "str | None", fallback: str, wanted: int) -> str:
    """Where working directories go: the batch system's ``$TMPDIR`` if it is large enough, the site's scratch,
    else the spool.
    """
    places = [one for one in (os.environ.get("TMPDIR"), configured) if one]
    for place in places:
        try:
            if os.path.isabs(place) and os.access(place, os.W_OK | os.X_OK) and free_bytes(place) >= wanted:
                return place
        except OSError:
            pass
    return fallback


def platform_name() -> str:
    """As software is named by platform: ``linux-x86_64-glibc2.17``."""
    libc = ""
    try:
        libc = "-" + str(os.confstr("CS_GNU_LIBC_VERSION")).replace(" ", "")
    except (ValueError, OSError):
        pass
    system = os.uname()
    return f"{system.sysname.lower()}-{system.machine}{libc}"


def attributes(configured: "dict[str, Any]", slots: int, devices: "list[str]") -> "dict[str, Any]":
    """What requirements may compare: found here, and over it what the site's configuration says."""
    system = os.uname()
    found: dict[str, Any] = {
        "CPU": True,
        "CPUs": slots,
        "GPU": bool(devices),
        "HasGPU": bool(devices),
        "GPUs": len(devices),
        "Arch": system.machine,
        "OS": system.sysname,
        "Kernel": system.release,
        "Host": system.nodename,
        "Platform": platform_name(),
        "Cvmfs": os.path.isdir("/cvmfs/cvmfs-config.cern.ch"),
    }
    found.update(configured)
    return found


def probe(root: "str | None") -> int:
    """Prints as one JSON line what this node is, and whether ``root`` would be a safe spool."""
    from . import answers, spool

    slots, devices = cpus(None), gpus(None)
    told: dict[str, Any] = {
        "host": node.host(),
        "boot": node.boot_id(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "executable": sys.executable,
        "cpus": slots,
        "memory": memory(None, slots),
        "gpus": len(devices),
        "attrs": attributes({}, slots, devices),
        "tmpdir": os.environ.get("TMPDIR"),
    }
    if root is not None:
        try:
            spool.check_root(root)
            told["spool"] = {"safe": True, "health": answers.health(root)}
        except (spool.Unsafe, OSError) as error:
            told["spool"] = {"safe": False, "why": str(error)}
    sys.stdout.write(json.dumps(told, sort_keys=True) + "\n")
    return 0

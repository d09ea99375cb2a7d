"""What this node offers an agent: the smallest of what cgroups, affinity, batch system and pilot allow (hides
where each is written).
"""

import json
import os
import resource
import sys

from . import node, platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["OutOfMemory", "attributes", "choose_scratch", "cpus", "disk", "gpus", "memory", "platform_name", "probe"]

_BATCH = ("SLURM_JOB_ID", "PBS_JOBID", "_CONDOR_SCRATCH_DIR", "JOB_ID", "LSB_JOBID")
_CPU_VARIABLES = ("SLURM_CPUS_ON_NODE", "NCPUS", "PBS_NCPUS", "PBS_NUM_PPN", "NSLOTS")
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "SGE_GPU", "SGE_HGR_gpu", "SGE_HGR_gpus", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")


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


def _machine_ad() -> "dict[str, str]":
    """What HTCondor gave: the ad of our slot, values as they are written there."""
    found = {}
    try:
        with open(os.environ.get("_CONDOR_MACHINE_AD", ""), errors="replace") as stream:
            for line in stream:
                name, equals, value = line.partition(" = ")
                if equals:
                    found[name.strip()] = value.strip()
    except OSError:
        pass
    return found


def _on_this_host() -> int:
    """How many slots LSF gave on this host, 0 where it says nothing: ``LSB_MCPU_HOSTS`` is ``host1 4 host2 4``."""
    words = os.environ.get("LSB_MCPU_HOSTS", "").split()
    own = os.uname().nodename.split(".")[0]
    return sum(int(n) for host, n in zip(words[::2], words[1::2]) if host.split(".")[0] == own and n.isdigit())


def cpus(given: "int | None") -> int:
    """How many tasks of one cpu may run side by side."""
    found = [len(os.sched_getaffinity(0))]
    quota = _cgroup_cpus()
    if quota:
        found.append(quota)
    if in_batch_job():
        found += [int(os.environ[name]) for name in _CPU_VARIABLES if os.environ.get(name, "").isdigit()]
        cpus_there = _machine_ad().get("Cpus", "")
        found += [int(cpus_there)] if cpus_there.isdigit() else []
        found += [_on_this_host()] if _on_this_host() else []
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
    slot = _machine_ad().get("Memory", "")
    if slot.isdigit() and int(slot):
        found.append(int(slot) << 20)
    if in_batch_job():
        # Grid Engine and PBS hold h_vmem and vmem by this limit
        limited = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [limited] if limited not in (resource.RLIM_INFINITY, -1) else []
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
    visible = _given_gpus()
    if given is None:
        return visible
    return visible[:given] if len(visible) >= given else [str(one) for one in range(given)]


def _given_gpus() -> "list[str]":
    ad = _machine_ad()
    if ad:
        # without any, HTCondor says CUDA_VISIBLE_DEVICES=10000, a device that is nowhere
        return _devices(ad.get("AssignedGPUs", "").strip('"')) if ad.get("GPUs", "0") != "0" else []
    for name in _GPU_VARIABLES:
        if name in os.environ:
            return _devices(os.environ[name])
    try:
        # Torque: a line "host-gpu0" for each
        with open(os.environ.get("PBS_GPUFILE", "")) as stream:
            own = os.uname().nodename.split(".")[0]
            pairs = [line.strip().rpartition("-gpu") for line in stream]
            return [number for host, _, number in pairs if host.split(".")[0] == own]
    except OSError:
        return []


def _devices(text: str) -> "list[str]":
    """Grid Engine puts blanks between them, the others commas."""
    found = text.replace(",", " ").split()
    return [] if found and found[0] in ("-1", "NoDevFiles", "10000", "none") else found


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
    return platforms.here()


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
        "Cvmfs": _cvmfs(),
    }
    found.update(configured)
    return found


def _cvmfs(seconds: float = 10.0) -> bool:
    """Whether CVMFS is mounted, and answers: a mount that hangs holds nobody up."""
    try:
        with open("/proc/self/mountinfo") as stream:
            mounted = any(text.split()[4].startswith("/cvmfs") for text in stream)
    except (OSError, IndexError):
        mounted = False
    if not mounted:
        return os.path.isdir("/cvmfs/cvmfs-config.cern.ch")
    from . import trial

    return trial.attempt(["ls", "/cvmfs/cvmfs-config.cern.ch/"], dict(os.environ), seconds).ok


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

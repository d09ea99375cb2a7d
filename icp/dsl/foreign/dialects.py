"""SLURM, PBS and Grid Engine: what their options mean for a task (hides sbatch(1), qsub(1B) of PBS and qsub(1) of Grid Engine)."""

from __future__ import annotations

import re
from functools import partial

from icp.dsl.foreign.directives import (
    Asked,
    System,
    assigned,
    indices,
    long_options,
    mib,
    one,
    seconds,
    short_options,
    whole,
)

__all__ = ["SYSTEMS"]

# ---- SLURM

_SLURM_SHORT = {
    "-a": "--array", "-c": "--cpus-per-task", "-n": "--ntasks", "-N": "--nodes", "-t": "--time", "-G": "--gpus", "-o": "--output", "-e": "--error",
    "-J": "--job-name", "-D": "--chdir", "-d": "--dependency", "-i": "--input", "-b": "--begin",
}  # fmt: skip
_SLURM_FLAGS = ("--requeue", "--no-requeue", "--exclusive", "-H", "--hold", "-O", "-s", "-Q", "-v", "-k", "-K", "-W", "--wait", "--parsable",
                "--contiguous", "--overcommit", "--spread-job", "--oversubscribe", "--ignore-pbs", "--reboot", "--no-kill", "--verbose")  # fmt: skip
_SITE = "partitions, accounts and the like belong to a site: [site.NAME.pilot]"


def _slurm(asked: Asked, option: str, value: str) -> str | None:
    option = _SLURM_SHORT.get(option, option)
    if option == "--array":
        asked.indices, limited = indices(value)
        return "how many run at once (%) is for the sites to say: `icp config set site.NAME.pilot.max`" if limited else None
    if option == "--cpus-per-task":
        asked.cpus = whole(value)
    elif option in ("--nodes", "--ntasks", "--ntasks-per-node"):
        one(value, "nodes" if option == "--nodes" else "tasks")
    elif option in ("--mem", "--mem-per-node"):
        asked.memory = mib(value, 1)
        return "no figure: the default is taken" if not asked.memory else None
    elif option == "--mem-per-cpu":
        asked.memory_per_cpu = mib(value, 1)
    elif option == "--tmp":
        asked.disk = mib(value, 1)
    elif option == "--time":
        # with a number or minutes:seconds
        asked.time = seconds(value, 60)
    elif option in ("--gpus", "--gpus-per-node", "--gpus-per-task", "--gres"):
        return _slurm_gpus(asked, option, value)
    elif option in ("--output", "--error"):
        setattr(asked, option[2:], value)
    elif option == "--job-name":
        asked.name = value
    elif option == "--export":
        rest = ",".join(part for part in value.split(",") if part not in ("ALL", "NONE", "NIL"))
        return assigned(rest, asked) if rest else ("sites have environments of their own" if "ALL" in value else None)
    elif option == "--chdir":
        if value not in (".", "$PWD"):
            raise ValueError("a job runs in a directory of its own at a site")
    elif option in ("--dependency", "--begin", "--input", "--container", "--wrap", "--bb", "--bbf"):
        raise ValueError("it has no counterpart" + ("; tasks that wait for others are `after` in a steering file" if option == "--dependency" else ""))
    elif option == "hetjob":
        raise ValueError("jobs of several parts have no counterpart")
    else:
        return _SITE if option in ("-p", "--partition", "-A", "--account", "-q", "--qos", "-C", "--constraint") else "it has no counterpart"
    return None


def _slurm_gpus(asked: Asked, option: str, value: str) -> str | None:
    match = re.match(r"(?:gpu:?)?(?:([A-Za-z_]\w*):)?(\d+)?\Z" if option == "--gres" else r"(?:gpu:)?(?:([A-Za-z_]\w*):)?(\d+)\Z", value)
    if match is None or (option == "--gres" and not value.startswith("gpu")):
        raise ValueError(f"{value[:60]!r} is no number of gpus, and nothing else has a counterpart")
    asked.gpus = int(match[2] or 1)
    return f"the kind {match[1]}; requirements of a steering file can ask for attributes" if match[1] else None


def _slurm_file(pattern: str, index: str | None, dataset: str) -> str:
    def value(match: re.Match[str]) -> str:
        width, letter = match.group(1), match.group(2)
        if letter == "%":
            return "%"
        if letter == "a":
            return _padded(index or "0", width)
        if letter in "Ax" or (letter == "j" and index is None):
            return dataset
        if letter == "j":
            return f"{dataset}_{index}"
        return "0" if letter in "nts" else "icp" if letter in "uN" else "batch"

    return _standing(re.sub(r"%(\d*)([%aAjxntsuNbJ])", value, pattern))


def _padded(index: str, width: str) -> str:
    if not width:
        return index
    if index.startswith("\0"):
        return f"\0$sprintf(%0{int(width)}d, {index[1:-1]})\0"
    return index.zfill(int(width))


def _standing(path: str) -> str:
    """Below the job's directory: of what leads elsewhere the name is kept."""
    if path == "/dev/null":
        return path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return parts[-1] if parts and (path.startswith("/") or ".." in parts) else "/".join(parts)


def _array(asked: Asked) -> tuple[str, str, str, str]:
    step = asked.indices[1] - asked.indices[0] if len(asked.indices) > 1 else 1
    step = step if list(range(asked.indices[0], asked.indices[-1] + 1, step)) == asked.indices else 1
    return str(asked.indices[0]), str(asked.indices[-1]), str(step), str(len(asked.indices))


def _slurm_variables(asked: Asked, index: str | None, dataset: str) -> list[tuple[str, str]]:
    found = [("SLURM_JOB_NAME", dataset), ("SLURM_CPUS_PER_TASK", str(asked.cpus)), ("SLURM_CPUS_ON_NODE", str(asked.cpus)), ("SLURM_NTASKS", "1"),
             ("SLURM_NPROCS", "1"), ("SLURM_NNODES", "1"), ("SLURM_JOB_NUM_NODES", "1"), ("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0")]  # fmt: skip
    if index is not None:
        first, last, step, count = _array(asked)
        found += [("SLURM_ARRAY_TASK_ID", index), ("SLURM_ARRAY_JOB_ID", dataset), ("SLURM_ARRAY_TASK_MIN", first), ("SLURM_ARRAY_TASK_MAX", last),
                  ("SLURM_ARRAY_TASK_STEP", step), ("SLURM_ARRAY_TASK_COUNT", count)]  # fmt: skip
    return found


# ---- PBS

_PBS_FLAGS = ("-V", "-I", "-X", "-z", "-h", "-f", "-x", "-F")


def _pbs(asked: Asked, option: str, value: str) -> str | None:
    if option == "-l":
        said = [_pbs_resource(asked, *part.partition("=")[::2]) for part in value.split(",")]
        return "; ".join(filter(None, said)) or None
    if option in ("-J", "-t"):
        asked.indices, limited = indices(value)
        return "how many run at once (%) is for the sites to say: `icp config set site.NAME.pilot.max`" if limited else None
    if option == "-N":
        asked.name = value
    elif option in ("-o", "-e"):
        # a folder gets the batch system's own names
        path = value.partition(":")[2] if re.match(r"[\w.-]+:", value) else value
        if path.endswith("/"):
            return "a folder: output stays where `icp logs` finds it"
        setattr(asked, "output" if option == "-o" else "error", path)
    elif option == "-j":
        asked.joined = value in ("oe", "eo")
    elif option == "-v":
        return assigned(value, asked)
    elif option == "-S":
        asked.shell = (value,)
    elif option == "-p":
        asked.priority = int(value) if re.match(r"-?\d{1,4}\Z", value) else 0
    elif option in ("-W", "-a", "-d", "-D", "-w"):
        raise ValueError("it has no counterpart" + ("; tasks that wait for others are `after` in a steering file" if "depend" in value else ""))
    else:
        return {"-q": _SITE, "-A": _SITE, "-P": _SITE, "-V": "sites have environments of their own"}.get(option, "it has no counterpart")
    return None


def _pbs_resource(asked: Asked, key: str, value: str) -> str | None:
    if key in ("select", "nodes"):
        first, *parts = value.split(":")
        one(first, "nodes")
        for part in parts:
            name, _, figure = part.partition("=")
            if name == "ppn":
                asked.cpus = whole(figure)
            elif name in ("gpus", "ngpus", "ncpus", "mem"):
                _pbs_resource(asked, name, figure)
            elif name == "mpiprocs":
                one(figure, "processes of MPI")
        if "+" in value:
            raise ValueError("jobs of several parts have no counterpart")
        return None
    if key == "ncpus":
        asked.cpus = whole(value)
    elif key in ("mem", "pmem", "vmem", "pvmem"):
        size = mib(value, 2**-20)
        if key.startswith("p"):
            asked.memory_per_cpu = size
        else:
            asked.memory = max(size, asked.memory) if key == "mem" else asked.memory or size
    elif key in ("walltime", "cput"):
        asked.time = max(asked.time, seconds(value, 1))
    elif key in ("ngpus", "gpus"):
        asked.gpus = whole(value)
    elif key in ("file", "scratch", "scratch_local"):
        asked.disk = mib(value, 2**-20)
    elif key == "mpiprocs":
        one(value, "processes of MPI")
    else:
        return f"{key} has no counterpart"
    return None


def _pbs_file(pattern: str, index: str | None, dataset: str) -> str:
    return _standing(pattern.replace("^array_index^", index or "0").replace("^job_id^", dataset))


def _pbs_variables(asked: Asked, index: str | None, dataset: str) -> list[tuple[str, str]]:
    found = [("PBS_JOBNAME", dataset), ("NCPUS", str(asked.cpus)), ("PBS_NP", str(asked.cpus)), ("PBS_ENVIRONMENT", "PBS_BATCH")]
    return found if index is None else [*found, ("PBS_ARRAY_INDEX", index), ("PBS_ARRAYID", index)]


# ---- Grid Engine

_SGE_FLAGS = ("-cwd", "-V", "-terse", "-notify", "-h", "-clear", "-verify")
_SHARED = re.compile(r"smp|shm|shared|thread|openmp|omp|multicore|single|local|serial|node", re.IGNORECASE)


def _sge(asked: Asked, option: str, value: str) -> str | None:
    if option == "-l":
        said = [_sge_resource(asked, *part.partition("=")[::2]) for part in value.split(",")]
        return "; ".join(filter(None, said)) or None
    if option == "-t":
        asked.indices, _ = indices(value)
    elif option == "-pe":
        name, _, slots = value.partition(" ")
        if not _SHARED.search(name) or re.search("mpi", name, re.IGNORECASE):
            raise ValueError(f"the parallel environment {name} may span nodes: a task of icp is one process on one node (smp and the like are understood)")
        asked.cpus = whole(slots.split("-")[0])
        return "only the first number counts" if "-" in slots else None
    elif option == "-N":
        asked.name = value
    elif option in ("-o", "-e"):
        path = value.partition(":")[2] if re.match(r"[\w.-]*:", value) else value
        if path.endswith("/"):
            return "a folder: output stays where `icp logs` finds it"
        setattr(asked, "output" if option == "-o" else "error", path)
    elif option == "-j":
        asked.joined = value.lower() in ("y", "yes")
    elif option == "-v":
        return assigned(value, asked)
    elif option == "-S":
        asked.shell = (value,)
    elif option == "-p":
        asked.priority = int(value) if re.match(r"-?\d{1,4}\Z", value) else 0
    elif option in ("-hold_jid", "-hold_jid_ad", "-wd", "-a", "-ar", "-i"):
        raise ValueError("it has no counterpart" + ("; tasks that wait for others are `after` in a steering file" if "hold" in option else ""))
    elif option == "-cwd":
        return None
    else:
        found = {"-q": _SITE, "-P": _SITE, "-A": _SITE, "-V": "sites have environments of their own", "-tc": "how many run at once is for the sites to say"}
        return found.get(option, "it has no counterpart")
    return None


def _sge_resource(asked: Asked, key: str, value: str) -> str | None:
    if key in ("h_rt", "s_rt"):
        asked.time = max(asked.time, seconds(value, 1))
    elif key in ("h_vmem", "s_vmem", "mem_free", "virtual_free", "h_rss", "mem", "m_mem_free"):
        asked.memory_per_cpu = max(asked.memory_per_cpu, mib(value, 2**-20, 1000))
    elif key in ("gpu", "gpus", "ngpus"):
        asked.gpus = whole(value)
    elif key in ("tmpfs", "scratch", "tmp_free", "tmpspace"):
        asked.disk = mib(value, 2**-20, 1000)
    else:
        return f"{key} has no counterpart"
    return None


def _sge_file(pattern: str, index: str | None, dataset: str) -> str:
    for word, value in (("TASK_ID", index or "undefined"), ("JOB_ID", dataset), ("JOB_NAME", dataset), ("HOSTNAME", "icp"), ("USER", "icp"), ("HOME", "")):
        pattern = re.sub(rf"\$(?:{word}\b|\{{{word}\}})", partial(_constant, value), pattern)
    return _standing(pattern)


def _sge_variables(asked: Asked, index: str | None, dataset: str) -> list[tuple[str, str]]:
    found = [("JOB_NAME", dataset), ("NSLOTS", str(asked.cpus)), ("NHOSTS", "1")]
    if index is None:
        return [*found, ("SGE_TASK_ID", "undefined")]
    first, last, step, _ = _array(asked)
    return [*found, ("SGE_TASK_ID", index), ("SGE_TASK_FIRST", first), ("SGE_TASK_LAST", last), ("SGE_TASK_STEPSIZE", step)]


def _constant(value: str, match: re.Match[str]) -> str:  # noqa: ARG001
    return value


SYSTEMS: tuple[System, ...] = (
    # a pilot that runs in a job of SLURM has variables of its own, which are not the task's
    System("#SBATCH", (".sbatch", ".slurm"), partial(long_options, flags=_SLURM_FLAGS), _slurm, _slurm_file, _slurm_variables,
           ("unset SLURM_JOB_NODELIST SLURM_NODELIST SLURM_TASKS_PER_NODE SLURM_STEP_ID SLURM_STEPID SLURM_MEM_PER_NODE SLURM_MEM_PER_CPU",
            'export SLURM_JOB_ID="$ICP_ATTEMPT" SLURM_JOBID="$ICP_ATTEMPT" SLURM_SUBMIT_DIR="$PWD"'),
           "unset SLURM_ARRAY_TASK_ID SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_COUNT", one_file=True),
    System("#PBS", (".pbs",), short_options(_PBS_FLAGS, many=False), _pbs, _pbs_file, _pbs_variables,
           ('export PBS_JOBID="$ICP_ATTEMPT" PBS_O_WORKDIR="$PWD" PBS_JOBDIR="$PWD"',), "unset PBS_ARRAY_INDEX PBS_ARRAYID PBS_NODEFILE"),
    System("#$", (".sge",), short_options(_SGE_FLAGS, many=True), _sge, _sge_file, _sge_variables,
           ('export JOB_ID="$ICP_ATTEMPT" SGE_O_WORKDIR="$PWD"',), stops=False),
)  # fmt: skip

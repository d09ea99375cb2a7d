"""Pilots as batch jobs, rendered and understood by Parsl's providers, which never run a command nor see a network (hides Parsl).

A provider writes its files below ``script_dir`` and runs every command through ``execute_wait``. Here ``script_dir`` is a directory for
the moment, and ``execute_wait`` records the command and ends the call: what was recorded travels in an exchange. Its receipt is replayed
to a second call, so that Parsl reads the job's id out of it. Parsl's ``status()`` is never asked.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import shlex
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parsl.launchers import SimpleLauncher, SrunLauncher
from parsl.providers import SlurmProvider
from parsl.providers.cluster_provider import ClusterProvider

from icp.errors import BadInput
from icp.model.batch import Captured, NotSubmitted, Submitted, Unclear, Wanted

__all__ = ["cancel_argv", "cancel_name_argv", "check", "job_id", "options_of", "render"]


SCHEDULERS: Mapping[str, type[ClusterProvider]] = {"slurm": SlurmProvider}

# what the configuration has words of its own for, and what has no meaning for pilots
_SAID: Mapping[str, str] = {
    "partition": "pilot.partition", "account": "pilot.account", "qos": "pilot.qos", "constraint": "pilot.constraint",
    "nodes_per_block": "pilot.nodes", "cores_per_node": "pilot.cpus", "mem_per_node": "pilot.memory", "gpus_per_node": "pilot.gpus",
    "walltime": "pilot.walltime", "worker_init": "setup", "max_blocks": "pilot.max",
}  # fmt: skip
_MEANINGLESS = ("self", "init_blocks", "min_blocks", "parallelism", "cmd_timeout", "status_batch_size", "launcher")

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:@+=/-]*\Z")
# only ever in a line that begins with #SBATCH, where no shell reads it
_CONSTRAINT = re.compile(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:@+=*&|()\[\]-]*\Z")
_PATH = re.compile(r"/[A-Za-z0-9_.,:@+=/-]*\Z")
_NAME = re.compile(r"icp-[0-9a-f]{8}-[0-9a-f]{16}\Z")
_DIRECTIVE = re.compile(r"#SBATCH +-{1,2}[A-Za-z][A-Za-z0-9-]*(?:[ =][A-Za-z0-9_.,:@+=/*&|()\[\]%-]+)?\Z")
_OURS = ("job-name", "output", "error", "requeue", "no-requeue", "array", "parsable", "wait", "wrap", "chdir", "hold", "nodes", "ntasks", "time")


class _Recorded(Exception):
    """Ends a provider's call once its command is known."""


class _Remote(ClusterProvider):
    """Stands between a provider and ClusterProvider (after the provider's class in the list: LSF calls ``super().execute_wait``)."""

    answer: tuple[int, str, str] | None
    command: str | None

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:  # noqa: ARG002  Parsl's signature
        if cmd.startswith("sacct -X"):
            # a question of SlurmProvider's at birth, about how it would ask for states: it will not be asked
            return 1, "", "not asked"
        if self.answer is not None:
            return self.answer
        self.command = cmd
        raise _Recorded


def options_of(scheduler: str) -> list[str]:
    """Parsl's options that may be given as they are, in the installed release."""
    known = inspect.signature(_class(scheduler).__init__).parameters
    return sorted(name for name in known if name not in _MEANINGLESS and name not in _SAID)


def _class(scheduler: str) -> type[ClusterProvider]:
    if scheduler not in SCHEDULERS:
        raise BadInput(f"no scheduler {scheduler!r}", "known are " + ", ".join(sorted(SCHEDULERS)))
    return SCHEDULERS[scheduler]


def check(scheduler: str, wanted: Wanted) -> None:
    """BadInput with every mistake: unknown options with all names, values that could be more than one word."""
    known = options_of(scheduler)
    mistakes = []
    for name, pattern in (("partition", _WORD), ("account", _WORD), ("qos", _WORD), ("constraint", _CONSTRAINT)):
        value = getattr(wanted, name)
        if value is not None and not pattern.match(value):
            mistakes.append(f"pilot.{name} = {value!r}: expected one word without blanks, quotes or characters of the shell")
    if not _NAME.match(wanted.name):
        mistakes.append(f"{wanted.name!r} is no name of a batch job of ours")
    if not _PATH.match(wanted.folder):
        mistakes.append(f"root: {wanted.folder!r}: batch systems need an absolute path without blanks, quotes or characters of the shell")
    for name in ("nodes", "cpus", "walltime"):
        value = getattr(wanted, name)
        if value is not None and value < 1:
            mistakes.append(f"pilot.{name} = {value}: expected 1 or more")
    for name, value in wanted.options.items():
        if name in _SAID:
            mistakes.append(f"options.{name}: write it as {_SAID[name]}")
        elif name not in known:
            near = difflib.get_close_matches(name, [*known, *_SAID], 1)
            meant = f" (did you mean {_SAID.get(near[0], 'options.' + near[0])}?)" if near else ""
            mistakes.append(f"options.{name}: no such option of {_class(scheduler).__name__}{meant}; there are {', '.join(known)}")
        elif name == "scheduler_options":
            mistakes += _directives(value)
        elif isinstance(value, str) and name != "regex_job_id" and not _WORD.match(value):
            mistakes.append(f"options.{name} = {value!r}: expected one word without blanks, quotes or characters of the shell")
    if mistakes:
        what = mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} values do not fit the scheduler {scheduler}"
        raise BadInput(what, None, tuple(mistakes))


def _directives(value: Any) -> list[str]:
    if not isinstance(value, str):
        return ["options.scheduler_options: expected text"]
    mistakes = []
    for line in filter(None, map(str.strip, value.splitlines())):
        if not _DIRECTIVE.match(line):
            mistakes.append(f"options.scheduler_options: {line!r}: expected lines such as '#SBATCH --licenses=geant:1'")
        elif re.split(r"[ =]+", line)[1].lstrip("-") in _OURS:
            mistakes.append(f"options.scheduler_options: {line!r}: pilots decide this themselves")
    return mistakes


def render(scheduler: str, wanted: Wanted) -> Captured:
    """The submit script and the command that submits it; the same for the same Wanted and release of Parsl.

    The batch job is ``exec /bin/sh pilot.sh`` in the pilot's folder, once on each node. BadInput: see ``check``.
    """
    check(scheduler, wanted)
    with tempfile.TemporaryDirectory(prefix=f"icp-{uuid.uuid4().hex}-") as stage:
        provider = _provider(scheduler, wanted, stage)
        command = _record(provider, lambda: provider.submit(f"exec /bin/sh {wanted.folder}/pilot.sh", 1, job_name=wanted.name))
        written = {one.name: one.read_text(encoding="utf-8") for one in sorted(Path(stage).iterdir())}
    # Parsl appends the time to a job's name, and names its script so: a name that can be told before is worth more
    timed = re.compile(re.escape(wanted.name) + r"\.[0-9]+(?:\.[0-9]+)?")

    def text(raw: str, folder: str) -> str:
        raw = re.sub(rf"{re.escape(stage)}/{timed.pattern}\.(stdout|stderr)", lambda match: f"{folder}/{match[1]}", raw)
        raw = re.sub(rf"{re.escape(stage)}/{timed.pattern}", f"{folder}/submit.sh", raw)
        return timed.sub(wanted.name, raw.replace(stage, folder))

    files = {("submit.sh" if timed.fullmatch(name) else name): text(raw, wanted.folder) for name, raw in written.items()}
    return Captured((*_unset(wanted), *shlex.split(text(command, "{dir}"))), files)


def _unset(wanted: Wanted) -> list[str]:
    """SBATCH_... of the person's environment wins over a script: what is asked for here must not be overruled there."""
    names = ["JOB_NAME", "TIMELIMIT", "REQUEUE", "NO_REQUEUE", "EXCLUSIVE", "ARRAY_INX", "HOLD", "WAIT", "OUTPUT", "ERROR"]
    for name, asked in (("PARTITION", wanted.partition), ("ACCOUNT", wanted.account), ("QOS", wanted.qos), ("CONSTRAINT", wanted.constraint),
                        ("GPUS_PER_NODE", wanted.gpus), ("MEM_PER_NODE", wanted.memory), ("MEM_PER_CPU", wanted.memory)):  # fmt: skip
        if asked is not None:
            names.append(name)
    return ["env", *(word for name in sorted(names) for word in ("-u", f"SBATCH_{name}"))]


def _provider(scheduler: str, wanted: Wanted, stage: str, answer: tuple[int, str, str] | None = None) -> Any:
    base = _class(scheduler)
    lines = ["#SBATCH --no-requeue", *filter(None, map(str.strip, str(wanted.options.get("scheduler_options", "")).splitlines()))]
    if wanted.memory:
        lines.append(f"#SBATCH --mem={-(-wanted.memory // 2**20)}M")  # Parsl has whole GB only
    if wanted.gpus:
        lines.append(f"#SBATCH --gpus-per-node={wanted.gpus}")
    minutes = -(-wanted.walltime // 60)
    arguments: dict[str, Any] = {
        "exclusive": False, **wanted.options, "scheduler_options": "\n".join(lines), "walltime": f"{minutes // 60}:{minutes % 60:02}:00",
        "nodes_per_block": wanted.nodes, "cores_per_node": wanted.cpus, "launcher": _launcher(wanted),
    }  # fmt: skip
    for name in ("partition", "account", "qos", "constraint"):
        if getattr(wanted, name) is not None:
            arguments[name] = getattr(wanted, name)
    if wanted.nodes > 1:
        # bash would leave at the SIGTERM of a cancelled job, and take the agents with it; so it waits for srun
        arguments["worker_init"] = "trap : TERM"
    kind = type(f"Captured{base.__name__}", (base, _Remote), {"answer": answer, "command": None})
    try:
        provider: Any = kind(**arguments)
    except Exception as error:  # noqa: BLE001  typeguard's errors differ from release to release
        raise BadInput(f"{base.__name__} does not take these options: {str(error).splitlines()[0]}") from None
    provider.script_dir = stage
    return provider


def _launcher(wanted: Wanted) -> Any:
    if wanted.nodes == 1:
        return SimpleLauncher()
    # since 22.05 srun does not take --cpus-per-task over from the job
    cpus = f" --cpus-per-task={wanted.cpus}" if wanted.cpus else ""
    return SrunLauncher(overrides=f"--nodes={wanted.nodes} --ntasks-per-node=1{cpus} --kill-on-bad-exit=0")


def _record(provider: Any, call: Any) -> str:
    try:
        call()
    except Exception:
        # a provider may wrap what ends it; what counts is whether it came to its command
        if provider.command is None:
            raise
    if provider.command is None:
        raise AssertionError("a provider ended without running a command")
    return str(provider.command)


# (pattern, sentence, hint, again): what sbatch says when it refuses
_REFUSALS: tuple[tuple[str, str, str, bool], ...] = (
    (r"[Ii]nvalid account|account/partition combination", "the account is not known, or not for this partition",
     "set pilot.account to one of `sacctmgr show assoc user=$USER format=account,partition`", False),
    (r"[Ii]nvalid partition", "there is no such partition", "set pilot.partition to one of `sinfo -s`", False),
    (r"[Ii]nvalid qos", "the QOS is not known, or not for this account", "set pilot.qos to one of `sacctmgr show assoc user=$USER format=qos`", False),
    (r"[Rr]equested time limit is invalid|time limit.*exceed|PartitionTimeLimit", "the walltime is over the partition's limit",
     "lower pilot.walltime (`sinfo -o '%P %l'` shows the limits)", False),
    (r"[Ii]nvalid feature", "no node has this constraint", "set pilot.constraint to features of `sinfo -o '%P %f'`", False),
    (r"[Ii]nvalid generic resource|Invalid GRES", "the partition has no such gpus", "look at `sinfo -o '%P %G'` and set pilot.gpus", False),
    (r"Memory specification|CPU count per node|node configuration is not available|Node count specification",
     "no node of the partition has so much", "lower pilot.cpus, pilot.memory or pilot.nodes (`sinfo -e -o '%P %D %c %m %G'`)", False),
    (r"Access/permission denied|User's group not permitted|not permitted to use this partition", "the partition is not open to this person",
     "choose another pilot.partition", False),
    (r"MaxSubmit|[Jj]ob violates accounting/QOS policy|submit limit", "the site takes no more jobs of this person for now",
     "it is tried again later; lower pilot.max_pending or pilot.max to what the site allows", True),
    (r"Partition is down|PartitionDown|[Pp]artition.*(?:inactive|drain)", "the partition is closed", "it is tried again later", True),
    (r"[Uu]nable to contact slurm controller|slurmctld.*not respond|temporarily unable|[Rr]esource temporarily unavailable",
     "the batch system cannot be reached", "it is tried again later", True),
    (r"[Qq]uota exceeded|No space left", "the disk of the site is full", "make room there, `df` and `quota` tell where", True),
    (r"No such file or directory: .?sbatch|sbatch: (?:command )?not found", "there is no sbatch on the login node",
     "add it to PATH in the start-up files there, or set scheduler = \"none\"", False),
)  # fmt: skip
# the request may have arrived: only the listing can tell
_UNCLEAR = re.compile(r"[Ss]ocket timed out|[Zz]ero [Bb]ytes|[Tt]ransport endpoint|receive fail|Message (?:send|receive) failure|Unexpected message"
                      r"|[Ii]/O error|Connection reset")  # fmt: skip


def job_id(
    scheduler: str, code: int | None, out: str, err: str, options: Mapping[str, Any] | None = None
) -> Submitted | NotSubmitted | Unclear:
    """What a receipt means. Unclear: it may have been submitted, and the listing by name must tell."""
    if code is None:
        return Unclear("the batch system did not answer the submit in time")
    said = f"{out}\n{err}"
    if code != 0 and _UNCLEAR.search(said):
        return Unclear(f"nobody can tell whether it was submitted: {_last(err)}")
    if code != 0:
        for pattern, sentence, hint, again in _REFUSALS:
            if re.search(pattern, said):
                return NotSubmitted(f"{sentence} ({_last(err or out)})", hint, again)
        return NotSubmitted(_last(err or out) or f"sbatch failed with exit {code}", "see the pilot's folder at the site", code != 127)
    wanted = Wanted("icp-00000000-0000000000000000", "/", options=dict(options or {}))
    with tempfile.TemporaryDirectory(prefix="icp-") as stage:
        provider = _provider(scheduler, wanted, stage, (code, out, err))
        try:
            found = provider.submit("true", 1, job_name=wanted.name)
        except Exception:  # noqa: BLE001  Parsl's way to say that it found no id
            found = None
    if not isinstance(found, str) or not re.match(r"[0-9]+\Z", found):
        return Unclear(f"the batch system gave no job id: {_last(out or err)}")
    return Submitted(found)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:200] if lines else ""


def cancel_argv(scheduler: str, jobs: Sequence[str], options: Mapping[str, Any] | None = None) -> list[str]:
    """The command that cancels these jobs."""
    for job in jobs:
        if not re.match(r"[0-9]+\Z", job):
            raise BadInput(f"{job!r} is no id of a batch job")
    wanted = Wanted("icp-00000000-0000000000000000", "/", options=dict(options or {}))
    provider = _provider(scheduler, wanted, os.sep)
    return shlex.split(_record(provider, lambda: provider.cancel(list(jobs))))


def cancel_name_argv(name: str) -> list[str]:
    """The command that cancels whatever job of ours has this name: for a pilot whose id never arrived."""
    if not _NAME.match(name):
        raise BadInput(f"{name!r} is no name of a batch job of ours")
    return ["scancel", f"--name={name}"]

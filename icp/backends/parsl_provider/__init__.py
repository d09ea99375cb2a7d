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

from parsl.providers.cluster_provider import ClusterProvider

from icp.backends.parsl_provider.capture import captured, record
from icp.backends.parsl_provider.condor import Condor
from icp.backends.parsl_provider.dialect import Dialect, word
from icp.backends.parsl_provider.grid_engine import GridEngine
from icp.backends.parsl_provider.lsf import Lsf
from icp.backends.parsl_provider.pbs import Pbs
from icp.backends.parsl_provider.slurm import Slurm
from icp.backends.parsl_provider.torque import Torque
from icp.errors import BadInput
from icp.model.batch import Captured, NotSubmitted, Submitted, Unclear, Wanted

__all__ = ["SCHEDULERS", "cancel_argv", "cancel_name_argv", "check", "job_id", "options_of", "render"]

_DIALECTS: Mapping[str, Dialect] = {
    "slurm": Slurm(), "pbs": Pbs(), "torque": Torque(), "sge": GridEngine(), "condor": Condor(), "lsf": Lsf(),
}  # fmt: skip
SCHEDULERS: Mapping[str, type[ClusterProvider]] = {name: dialect.provider for name, dialect in _DIALECTS.items()}

# what the configuration has words of its own for whatever the provider, and what has no meaning for pilots
_SAID: Mapping[str, str] = {"walltime": "pilot.walltime", "worker_init": "setup", "max_blocks": "pilot.max", "nodes_per_block": "pilot.nodes"}
_MEANINGLESS = (
    "self", "init_blocks", "min_blocks", "parallelism", "cmd_timeout", "status_batch_size", "cmd_chunk_size", "launcher", "environment",
    "transfer_input_files", "bsub_redirection",
)  # fmt: skip

_PATH = re.compile(r"/[A-Za-z0-9_.,:@+=/-]*\Z")
_NAME = re.compile(r"icp-[0-9a-f]{8}-[0-9a-f]{16}\Z")


def options_of(scheduler: str) -> list[str]:
    """Options that may be given as they are: Parsl's in the installed release, and ours beside them."""
    dialect = _dialect(scheduler)
    known = inspect.signature(dialect.provider.__init__).parameters
    return sorted({*(name for name in known if name not in _MEANINGLESS and name not in _said(dialect)), *dialect.extra})


def _said(dialect: Dialect) -> dict[str, str]:
    return {**_SAID, **dialect.said}


def _dialect(scheduler: str) -> Dialect:
    if scheduler not in _DIALECTS:
        raise BadInput(f"no scheduler {scheduler!r}", "known are " + ", ".join(sorted(_DIALECTS)))
    return _DIALECTS[scheduler]


def check(scheduler: str, wanted: Wanted) -> None:
    """BadInput with every mistake: unknown options with all names, values that could be more than one word."""
    dialect, known = _dialect(scheduler), options_of(scheduler)
    mistakes = []
    for name, allowed in (("partition", word), ("account", word), ("qos", word), ("constraint", dialect.checks.get("pilot.constraint", word))):
        value = getattr(wanted, name)
        if value is not None and name in dialect.lacks:
            mistakes.append(f"pilot.{name} = {value!r}: {dialect.lacks[name]}")
        elif value is not None and (expected := allowed(value)):
            mistakes.append(f"pilot.{name} = {value!r}: {expected}")
    if not _NAME.match(wanted.name):
        mistakes.append(f"{wanted.name!r} is no name of a batch job of ours")
    if not _PATH.match(wanted.folder):
        mistakes.append(f"root: {wanted.folder!r}: batch systems need an absolute path without blanks, quotes or characters of the shell")
    for name in ("nodes", "cpus", "walltime"):
        value = getattr(wanted, name)
        if value is not None and value < 1:
            mistakes.append(f"pilot.{name} = {value}: expected 1 or more")
    if wanted.nodes > 1 and "nodes" in dialect.lacks:
        mistakes.append(f"pilot.nodes = {wanted.nodes}: {dialect.lacks['nodes']}")
    for name, value in wanted.options.items():
        mistakes += _option(dialect, known, name, value)
    if mistakes:
        what = mistakes[0] if len(mistakes) == 1 else f"{len(mistakes)} values do not fit the scheduler {scheduler}"
        raise BadInput(what, None, tuple(mistakes))


def _option(dialect: Dialect, known: Sequence[str], name: str, value: Any) -> list[str]:
    said = _said(dialect)
    if name in said:
        return [f"options.{name}: write it as {said[name]}"]
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *said], 1)
        meant = f" (did you mean {said.get(near[0], 'options.' + near[0])}?)" if near else ""
        return [f"options.{name}: no such option of {dialect.provider.__name__}{meant}; there are {', '.join(known)}"]
    if name == "scheduler_options":
        return _directives(dialect, value)
    allowed = dialect.extra.get(name) or dialect.checks.get(name) or (word if isinstance(value, str) else None)
    expected = allowed(value) if allowed else None
    return [f"options.{name} = {value!r}: {expected}"] if expected else []


def _directives(dialect: Dialect, value: Any) -> list[str]:
    if not isinstance(value, str):
        return ["options.scheduler_options: expected text"]
    mistakes = []
    for line in filter(None, map(str.strip, value.splitlines())):
        match = dialect.line.match(line)
        if match is None:
            mistakes.append(f"options.scheduler_options: {line!r}: expected lines such as {dialect.line_example!r}")
        elif match[1].lower() in dialect.ours or match[1] in dialect.ours:
            mistakes.append(f"options.scheduler_options: {line!r}: pilots decide this themselves")
    return mistakes


def render(scheduler: str, wanted: Wanted) -> Captured:
    """The submit script and the command that submits it; the same for the same Wanted and release of Parsl.

    The batch job is ``exec /bin/sh pilot.sh`` in the pilot's folder, once on each node. BadInput: see ``check``.
    """
    check(scheduler, wanted)
    dialect = _dialect(scheduler)
    with tempfile.TemporaryDirectory(prefix=f"icp-{uuid.uuid4().hex}-") as stage:
        provider = captured(dialect.provider, stage, dialect.arguments(wanted))
        command = record(provider, lambda: provider.submit(dialect.pilot(wanted), dialect.tasks(wanted), job_name=wanted.name))
        written = {one.name: one.read_text(encoding="utf-8") for one in sorted(Path(stage).iterdir())}
    # Parsl adds the time to a job's name, and names its files so: a name that can be told before is worth more
    timed = re.compile(rf"(?:parsl\.)?{re.escape(wanted.name)}\.[0-9]+(?:\.[0-9]+)?")

    def file(name: str) -> str:
        """Our name of a file of Parsl's."""
        kind = timed.sub("", name).removeprefix(".submit").removeprefix(".")
        return {"": "submit.sh", "script": "batch.sh"}.get(kind, kind)

    def text(raw: str, folder: str) -> str:
        raw = re.sub(rf"{re.escape(stage)}/({timed.pattern}[A-Za-z.]*)", lambda match: f"{folder}/{file(match[1])}", raw)
        return timed.sub(wanted.name, re.sub(rf"{timed.pattern}\.script", "batch.sh", raw.replace(stage, folder)))

    files = {file(name): dialect.text(wanted, text(raw, wanted.folder)) for name, raw in written.items()}
    return Captured(tuple(dialect.command(wanted, shlex.split(text(command, "{dir}")))), files)


def job_id(
    scheduler: str, code: int | None, out: str, err: str, options: Mapping[str, Any] | None = None
) -> Submitted | NotSubmitted | Unclear:
    """What a receipt means. Unclear: it may have been submitted, and the listing by name must tell."""
    dialect = _dialect(scheduler)
    if code is None:
        return Unclear("the batch system did not answer the submit in time")
    said = f"{out}\n{err}"
    if code != 0 and dialect.unclear.search(said):
        return Unclear(f"nobody can tell whether it was submitted: {_last(err or out)}")
    if code != 0:
        for one in dialect.refusals:
            if match := re.search(one.pattern, said):
                return NotSubmitted(f"{one.sentence} ({_around(said, match)})", one.hint, one.again)
        return NotSubmitted(_last(err or out) or f"{dialect.program} failed with exit {code}", "see the pilot's folder at the site", code != 127)
    wanted = Wanted("icp-00000000-0000000000000000", "/", options=dict(options or {}))
    with tempfile.TemporaryDirectory(prefix="icp-") as stage:
        provider = captured(dialect.provider, stage, dialect.arguments(wanted), (code, out, err))
        try:
            found = provider.submit("true", 1, job_name=wanted.name)
        except Exception:  # noqa: BLE001  Parsl's way to say that it found no id
            found = None
    if not isinstance(found, str) or not dialect.job.match(found):
        return Unclear(f"the batch system gave no job id: {_last(out or err)}")
    return Submitted(found)


def _around(text: str, match: re.Match[str]) -> str:
    """The line that a match is in: the batch system's own words."""
    begin, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
    return _last(text[begin : end if end >= 0 else len(text)])


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1])[:200] if lines else ""


def cancel_argv(scheduler: str, jobs: Sequence[str], options: Mapping[str, Any] | None = None) -> list[str]:
    """The command that cancels these jobs."""
    dialect = _dialect(scheduler)
    for job in jobs:
        if not dialect.job.match(job):
            raise BadInput(f"{job!r} is no id of a batch job")
    wanted = Wanted("icp-00000000-0000000000000000", "/", options=dict(options or {}))
    provider = captured(dialect.provider, os.sep, dialect.arguments(wanted))
    return dialect.cancel(shlex.split(record(provider, lambda: provider.cancel(list(jobs)))))


def cancel_name_argv(name: str, scheduler: str = "slurm") -> list[str]:
    """The command that cancels whatever job of ours has this name: for a pilot whose id never arrived."""
    if not _NAME.match(name):
        raise BadInput(f"{name!r} is no name of a batch job of ours")
    return _dialect(scheduler).cancel_name(name)

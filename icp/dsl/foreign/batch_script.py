"""A batch script of SLURM, PBS or Grid Engine -> a dataset in the words of a steering file (hides directives, and how a script is run elsewhere)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from icp.dsl.check import Mistakes
from icp.dsl.disk import Disk
from icp.dsl.foreign.described import Described, Job, Out, describe
from icp.dsl.foreign.dialects import SYSTEMS
from icp.dsl.foreign.directives import Asked, System
from icp.dsl.foreign.words import DATASET, expression
from icp.dsl.locator import KeyPath, Position
from icp.dsl.names import NAME, unsafe

__all__ = ["read"]

_LAUNCHER = re.compile(r"\s*(?:time\s+|exec\s+|\w+=\S*\s+)*(srun|mpirun|mpiexec|aprun|ibrun|jsrun|orterun|prun)\s")
_PIECES = re.compile(r"[^\s'\"=;|&()<>`]+")
_HERE = re.compile(r"\$\{?(?:SLURM_SUBMIT_DIR|PBS_O_WORKDIR|SGE_O_WORKDIR|PWD)\}?/")


def read(text: str, path: str, places: dict[KeyPath, Position], mistakes: Mistakes, disk: Disk | None) -> Described | None:
    """See ``icp.dsl.foreign.Reader``."""
    system = _system(text, path)
    asked = Asked()
    for line, words in _directives(text, system):
        for option, value in system.options(words):
            places[option,] = (line, 1)
            try:
                warning = system.understand(asked, option, value)
            except ValueError as error:
                mistakes.add((option,), str(error))
                continue
            if warning:
                mistakes.warn((option,), f"passed over: {warning}")
    for number, one in enumerate(text.split("\n"), 1):
        launcher = _LAUNCHER.match(one)
        if launcher is not None:
            places[launcher.group(1),] = (number, 1)
            mistakes.add((launcher.group(1),), "it starts processes of a parallel job, and this is one task on one node", "the program itself")
    asked.settle()
    for problem in asked.problems:
        mistakes.add((problem[0],), problem[1])
    script = path.rpartition("/")[2]
    return _described(text, script, asked, system, places, mistakes, disk)


def _system(text: str, path: str) -> System:
    """By the file's end if it has such directives, otherwise by the first directive; SLURM where there is none."""
    found = [system for system in SYSTEMS if re.search(rf"^{re.escape(system.mark)}[ \t]+-", text, re.MULTILINE)]
    for system in found:
        if path.lower().endswith(system.suffixes):
            return system
    first = min(found, key=lambda one: text.index(f"{one.mark} "), default=None)
    return first or next((one for one in SYSTEMS if path.lower().endswith(one.suffixes)), SYSTEMS[0])


def _directives(text: str, system: System) -> Iterator[tuple[int, list[str]]]:
    """(line, words) up to the first command, as the batch systems read them."""
    for number, line in enumerate(text.split("\n"), 1):
        plain = line.strip()
        if plain.startswith(system.mark) and plain[len(system.mark) :][:1] in (" ", "\t"):
            try:
                words = shlex.split(plain[len(system.mark) :], comments=system.mark != "#$")
            except ValueError:
                words = plain[len(system.mark) :].split()
            if words and words[0].startswith("-"):
                yield number, words
        elif plain and not plain.startswith("#") and system.stops:
            return


def _described(
    text: str, script: str, asked: Asked, system: System, places: dict[KeyPath, Position], mistakes: Mistakes, disk: Disk | None
) -> Described | None:
    indices = asked.indices
    regular = _progression(indices)
    files = [script, *_beside(text, script, disk)]
    if len(files) > 1:
        places["files",] = (1, 1)
        mistakes.warn(("files",), f"{', '.join(files[1:6])}{', ...' if len(files) > 6 else ''}: named in the script, beside it, and so shipped with it")
    if unsafe(script):
        mistakes.add((), f"{script!r} cannot be the name of a shipped file")
    if not asked.time:
        places["time",] = (1, 1)
        mistakes.warn(("time",), "none is stated, so a job may run 1 h at the most")
    if len(mistakes):
        return None
    argv = (*(asked.shell or _shebang(text) or ("/bin/sh",)), f"./{script}")
    base = Job(argv, links=((script, script),), resources=asked.resources)
    jobs, count = [], None
    if not indices:
        jobs, count = [_job(base, asked, system, None)], 1
    elif regular is not None:
        start, step = regular
        text_of = "$args(job)" if (start, step) == (0, 1) else f"$eval($args(job) * {step} + {start})"
        jobs, count = [_job(base, asked, system, expression(text_of))], len(indices)
    else:
        jobs = [_job(base, asked, system, str(index)) for index in indices]
    for out in jobs[0].outputs:
        if why := unsafe(re.sub("\0[^\0]*\0", "x", out.name)):
            mistakes.add(("-o",), f"the output's name {out.name[:80]!r} {why}", "a file below the job's directory")
    name = asked.name if NAME.match(asked.name) else re.sub(r"\.\w+\Z", "", script)
    if asked.name and name != asked.name:
        mistakes.warn(("-J",), f"{asked.name[:60]!r} cannot be a dataset's name; the file's is taken")
    found = describe(name, jobs, count)
    found.table.update(files=files, name=name)
    if asked.priority:
        found.table["priority"] = asked.priority
    return found


def _job(base: Job, asked: Asked, system: System, index: str | None) -> Job:
    outputs, names = [], []
    for pattern in (asked.output, asked.error):
        name = system.file_name(pattern, index, DATASET) if pattern else ""
        names.append(name)
        if name not in ("", "/dev/null"):
            outputs.append(Out(name))
    stdout, stderr = names
    if stdout and (asked.joined or (system.one_file and not stderr)):
        stderr = stdout
    variables = [*system.variables(asked, index, DATASET), *asked.env]
    exports = system.exports if index is not None or not system.alone else (*system.exports, system.alone)
    return replace(base, stdout=stdout, stderr=stderr, env=tuple(variables), exports=exports, outputs=(*outputs, Out("**", glob=True, optional=True)))


def _progression(indices: list[int]) -> tuple[int, int] | None:
    if not indices:
        return None
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    regular = range(indices[0], indices[0] + step * len(indices), step)
    return (indices[0], step) if list(regular) == indices else None


def _shebang(text: str) -> tuple[str, ...]:
    first = text.split("\n", 1)[0]
    return tuple(first[2:].split()) if first.startswith("#!") else ()


def _beside(text: str, script: str, disk: Disk | None) -> list[str]:
    """Files beside the script that it names."""
    if disk is None:
        return []
    found: dict[str, None] = {}
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        for word in _PIECES.findall(_HERE.sub("", line)):
            plain = word.removeprefix("./")
            if plain and "$" not in plain and not plain.startswith(("/", "-")) and ".." not in plain and len(plain) < 256 and plain != script \
                    and disk.is_file(plain):  # fmt: skip
                found[plain] = None
    return list(found)

"""Jobs as other batch systems describe them -> a steering file's table (hides how a foreign job becomes a command).

A job runs in its task's directory. What it is given is linked there before it begins; these links go when it has ended, so that all that is left
is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from icp.dsl.foreign.words import DATASET, is_plain, name, pattern_of, sh
from icp.model.definition import JobSource

__all__ = ["OUTSIDE", "Described", "Job", "Out", "describe", "packed_as"]

OUTSIDE = ".outside"
"""The folder of a pack for what lies outside of the dataset's folder."""
TAIL = 4000
"""Bytes of a failed job's own files for stdout and stderr that the task's stdout and stderr get: the files themselves do not come home."""


@dataclass(frozen=True, slots=True)
class Out:
    """An output: a name, or a pattern."""

    name: str
    glob: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What one job runs; texts may hold expressions (``words``). None, or empty: nothing is said."""

    argv: tuple[str, ...]
    executable: tuple[str, str] | None = None
    """(name in the pack, name to run it by) of a file that must be executable"""
    links: tuple[tuple[str, str], ...] = ()
    """(name in the pack, name in the directory); a name with a slash at its end: everything in that folder"""
    env: tuple[tuple[str, str], ...] = ()
    """(variable, value)"""
    exports: tuple[str, ...] = ()
    """Lines of sh that set variables of which only the node knows the value"""
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    outputs: tuple[Out, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()
    """(name, new name) of outputs"""
    resources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Described:
    """A dataset in the words of a steering file, and the jobs that such a file would have read from a CSV file."""

    table: dict[str, Any]
    jobs: JobSource


def packed_as(path: str) -> str:
    """The name in a pack of a file that lies beside the description (a relative path) or elsewhere."""
    plain = "/".join(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or ".." in plain.split("/"):
        return f"{OUTSIDE}/" + plain.replace("..", "_up")
    return plain


def describe(dataset: str, jobs: Sequence[Job], count: int | None = None) -> Described:
    """``count``: that many jobs of one description with expressions; otherwise one description for each job. ValueError: a sentence."""
    columns: dict[str, list[str]] = {}

    def varied(column: str, texts: list[str]) -> str | None:
        """The text that all jobs have; None where they differ, and it became a column."""
        if len(set(texts)) == 1:
            return texts[0]
        columns[column] = texts
        return None

    if count is None:
        jobs = [_settled(job, dataset) for job in jobs]
    task: dict[str, Any] = {"command": _command(jobs, varied), "outputs": _outputs(jobs, varied)}
    resources = {}
    for kind in ("cpus", "memory", "disk", "gpus", "time"):
        texts = [job.resources.get(kind, "") for job in jobs]
        if any(texts) and not all(texts):
            raise ValueError(f"{kind} is said for some jobs only")
        if all(texts):
            same = varied(kind, texts)
            value = f"$args({kind})" if same is None else same
            resources[kind] = int(value) if kind in ("cpus", "gpus") and value.isdigit() else value
    if resources:
        task["resources"] = resources
    if count is not None:
        return Described(task, JobSource("count", count))
    if not columns:
        return Described(task, JobSource("count", len(jobs)))
    return Described(task, JobSource("rows", len(jobs), columns=tuple(columns), rows=tuple(zip(*columns.values(), strict=True))))


def _settled(job: Job, dataset: str) -> Job:
    """The job with the dataset's name, the only expression that can be left in the texts of one job."""

    def text(value: str) -> str:
        return value.replace(DATASET, dataset)

    return replace(
        job, argv=tuple(map(text, job.argv)), env=tuple((name, text(value)) for name, value in job.env), stdout=text(job.stdout), stderr=text(job.stderr),
        outputs=tuple(replace(out, name=text(out.name)) for out in job.outputs), moves=tuple((text(old), text(new)) for old, new in job.moves),
    )  # fmt: skip


def _command(jobs: Sequence[Job], varied: Callable[[str, list[str]], str | None]) -> str:
    def part(column: str, write: Callable[[Job], str]) -> str:
        same = varied(column, [write(job) for job in jobs])
        return f"eval $args({column})" if same is None else same

    before, runs, after = part("before", _before), part("runs", _runs), part("after", _after)
    lines = [before] if before else []
    if after:
        return "\n".join([*lines, "code=0", f"{runs} || code=$?", after, 'exit "$code"'])
    return "\n".join([*lines, runs])


def _before(job: Job) -> str:
    lines = [f"mkdir -p {sh(folder)}" for folder in dict.fromkeys(_folder(one) for one in (job.stdout, job.stderr) if "/" in one)]
    for source, target in job.links:
        if target.endswith("/"):
            lines.append(f"for one in {sh(source.rstrip('/'))}/*; do ln -s \"$one\" .; done")
        elif source != target:
            lines.append(f"ln -s {sh(source)} {sh(target)}")
    if job.executable is not None:
        source, target = job.executable
        # any mode will do there, so it must here
        lines.append(f"if [ -x {sh(source)} ]; then {_linked(source, target)}else cp {sh(source)} {sh(target)}.run; chmod u+x {sh(target)}.run; "
                     f"{'rm -f ' + sh(target) + '; ' if source == target else ''}mv {sh(target)}.run {sh(target)}; fi")  # fmt: skip
    lines += [f"export {variable}={sh(value)}" for variable, value in job.env]
    lines += job.exports
    return "\n".join(lines)


def _linked(source: str, target: str) -> str:
    return ":; " if source == target else f"ln -s {sh(source)} {sh(target)}; "


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _runs(job: Job) -> str:
    line = " ".join(sh(word) for word in job.argv)
    if job.stdin:
        line += f" <{sh(job.stdin)}"
    if job.stdout:
        line += f" >{sh(job.stdout)}"
    if job.stderr:
        line += " 2>&1" if job.stderr == job.stdout else f" 2>{sh(job.stderr)}"
    return line


def _after(job: Job) -> str:
    lines = []
    given = [target for _, target in job.links if not target.endswith("/")] + ([job.executable[1]] if job.executable else [])
    if any(out.glob for out in job.outputs) and (given or job.links):
        lines.append("for one in * .outside; do if [ -h \"$one\" ]; then rm -f \"$one\"; fi; done")
        if job.executable is not None:
            lines.append(f"rm -f {sh(job.executable[1])}")
    lines += [f"mkdir -p {sh(_folder(new))}" for new in dict.fromkeys(new for _, new in job.moves if "/" in new)]
    lines += [f"if [ -e {sh(old)} ]; then mv {sh(old)} {sh(new)}; fi" for old, new in job.moves]
    shown = [(job.stdout, "")] if job.stdout not in ("", "/dev/null") else []
    if job.stderr not in ("", "/dev/null", job.stdout):
        shown.append((job.stderr, " >&2"))
    if shown:
        tails = "; ".join(f"tail -c {TAIL} {sh(file)}{to}" for file, to in shown)
        lines.append(f"if [ \"$code\" != 0 ]; then {tails}; fi")
    return "\n".join(lines)


def _outputs(jobs: Sequence[Job], varied: Callable[[str, list[str]], str | None]) -> list[dict[str, Any]]:
    jobs = [replace(job, outputs=tuple(dict.fromkeys(job.outputs))) for job in jobs]
    if len({len(job.outputs) for job in jobs}) > 1:
        raise ValueError("the jobs have different numbers of output files")
    found: list[dict[str, Any]] = []
    for number, first in enumerate(jobs[0].outputs):
        texts = [job.outputs[number].name if job.outputs[number].glob else _escaped(job.outputs[number].name) for job in jobs]
        same = varied(f"output_{number}", texts)
        found.append({"name": f"$args(output_{number})" if same is None else name(same), "optional": first.optional})
    return found


def _escaped(text: str) -> str:
    return text if is_plain(text) and not any(sign in text for sign in "*?[") else pattern_of(text)

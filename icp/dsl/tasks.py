"""Tables of tasks -> task definitions: inputs, outputs, order (hides the rules of a dataset's graph).

Everything here works on data that passed the schema; what is wrong becomes mistakes and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from icp.dsl.check import Mistakes
from icp.dsl.locator import KeyPath
from icp.dsl.names import is_glob, unsafe
from icp.dsl.syntax import START, BadExpression, nearest, split
from icp.dsl.units import duration, size
from icp.dsl.urls import arrives_as, check_output_url, is_url, url_inputs
from icp.model.definition import InputRef, Module, Origin, OutputDef, Quantity, Resources, TaskDef, Tray

__all__ = ["Draft", "build_tasks"]

EVERY = "[*]"
LIST = "inputs.list"


@dataclass(frozen=True, slots=True)
class Draft:
    """A task definition, and where its table stands in the file."""

    task: TaskDef
    path: KeyPath
    outputs_at: tuple[int, ...] = ()
    inputs_at: tuple[int, ...] = ()
    fetches_at: tuple[int, ...] = ()


def build_tasks(tables: Iterable[tuple[str, Mapping[str, Any], KeyPath, bool]], mistakes: Mistakes) -> list[Draft]:
    """Definitions in topological order, final tasks last; ``tables`` gives name, table, place, and whether it is final."""
    drafts: dict[str, Draft] = {}
    for name, table, path, final in tables:
        if name in drafts:
            mistakes.add(path, f"there are two tasks named {name!r}", "names that differ, also of final tasks")
            continue
        drafts[name] = _draft(name, table, path, final, mistakes)
    for name, draft in drafts.items():
        drafts[name] = replace(draft, task=_connected(draft, drafts, mistakes))
    _check_kept(drafts, mistakes)
    ordered = _ordered(drafts, mistakes)
    return [replace(draft, task=replace(draft.task, index=index)) for index, draft in enumerate(ordered)]


def _draft(name: str, table: Mapping[str, Any], path: KeyPath, final: bool, mistakes: Mistakes) -> Draft:
    inputs = list(_inputs(table, path, final, mistakes))
    fetches = list(url_inputs(table, path, mistakes))
    outputs = list(_outputs(table, path, mistakes))
    task = TaskDef(
        name=name,
        index=0,
        final=final,
        trays=_trays(table),
        inputs=tuple(ref for _, ref in inputs),
        outputs=tuple(output for _, output in outputs),
        after=tuple(dict.fromkeys(task for task in table.get("after", ()) if task is not None)),
        resources=_resources(table.get("resources") or {}),
        requirements=table.get("requirements", ""),
        software=table.get("software"),
        max_tries=table.get("max_tries", 3),
        group_by=table.get("group_by"),
        fetches=tuple(one for _, one in fetches),
    )
    return Draft(task, path, *(tuple(index for index, _ in found) for found in (outputs, inputs, fetches)))


def _trays(table: Mapping[str, Any]) -> tuple[Tray, ...]:
    if "command" in table:
        return (Tray((Module(_command(table["command"])),)),)
    trays = []
    for tray in table.get("tray", ()):
        # a wrong one keeps its place, so that the others keep theirs
        about = tray or {}
        modules = tuple(_module(module or {}) for module in about.get("module", ()))
        trays.append(Tray(modules, about.get("software"), about.get("iterations", 1)))
    return tuple(trays)


def _module(about: Mapping[str, Any]) -> Module:
    origin = Origin(about["url"], about.get("rev", "")) if "url" in about else None
    params = about.get("params") or {}
    return Module(_command(about.get("command", "")), about.get("python"), about.get("class"), params, origin)


def _command(value: Any) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(part for part in value if part is not None)


def _resources(table: Mapping[str, Any]) -> Resources:
    values: dict[str, Quantity] = {}
    for kind, value in table.items():
        if isinstance(value, str) and START.search(value):
            values[kind] = value
        elif kind in ("memory", "disk"):
            values[kind] = size(value)
        else:
            values[kind] = duration(value) if kind == "time" else value
    return Resources(**values)


def _outputs(table: Mapping[str, Any], path: KeyPath, mistakes: Mistakes) -> Iterable[tuple[int, OutputDef]]:
    seen: set[str] = set()
    for index, value in enumerate(table.get("outputs", ())):
        if value is None or not (isinstance(value, str) or "name" in value):
            continue
        about: Mapping[str, Any] = {"name": value} if isinstance(value, str) else value
        name, here = about["name"], (*path, "outputs", index)
        try:
            fixed = [piece for piece in split(name) if isinstance(piece, str)]
        except BadExpression:
            fixed = []  # said where expressions are compiled
        # an expression stands for something harmless here; what it gives is checked when it is rendered
        if fixed and (why := unsafe(_harmless(name))):
            mistakes.add(here, f"the output's name {name[:80]!r} {why}", "a file below the task's directory")
        if name == LIST:
            mistakes.add(here, f"{LIST} is where a final task finds its inputs", "another name")
        if name in seen:
            mistakes.add(here, f"the output {name!r} is there twice")
        seen.add(name)
        glob = any(is_glob(piece) for piece in fixed)
        url = about.get("url", "")
        check_output_url(url, glob, (*here, "url"), mistakes)
        yield index, OutputDef(name, about.get("optional", False), about.get("keep"), glob, url)


def _harmless(name: str) -> str:
    return "".join(piece if isinstance(piece, str) else "x" for piece in split(name))


def _inputs(table: Mapping[str, Any], path: KeyPath, final: bool, mistakes: Mistakes) -> Iterable[tuple[int, InputRef]]:
    for index, text in enumerate(table.get("inputs", ())):
        if text is None or is_url(text):
            continue
        here = (*path, "inputs", index)
        task, colon, output = text.partition(":")
        every = output.endswith(EVERY)
        if not colon or not task or not output or output == EVERY:
            mistakes.add(here, f"{text!r} is no input", f'"task:output{EVERY}"' if final else '"task:output"')
        elif final and not every:
            mistakes.add(here, "a final task reads the outputs of all jobs", f'"{text}{EVERY}"')
            yield index, InputRef(task, output, True)
        elif every and not final:
            mistakes.add(here, f"only a final task reads {EVERY}, the outputs of all jobs", f'"{text[: -len(EVERY)]}"')
            yield index, InputRef(task, output[: -len(EVERY)])
        else:
            yield index, InputRef(task, output[: -len(EVERY)] if every else output, every)


def _connected(draft: Draft, drafts: Mapping[str, Draft], mistakes: Mistakes) -> TaskDef:
    """The task with every parent in ``after``; names that do not exist are mistakes and left out."""
    task, inputs = draft.task, []
    parents = [name for name in task.after if _parent(name, draft, drafts, (*draft.path, "after"), mistakes)]
    arriving: set[str] = set()
    for index, ref in zip(draft.inputs_at, task.inputs, strict=True):
        here = (*draft.path, "inputs", index)
        if not _parent(ref.task, draft, drafts, here, mistakes):
            continue
        known = [output.name for output in drafts[ref.task].task.outputs]
        if ref.output not in known:
            meant = nearest(ref.output, known)
            expected = "" if meant else "one of its outputs: " + (", ".join(known) or "it has none")
            suffix = EVERY if ref.every else ""
            mistakes.add(
                here,
                f"task {ref.task!r} has no output {ref.output!r}",
                expected,
                f'"{ref.task}:{meant}{suffix}"' if meant else "",
            )
            continue
        if not task.final and ref.output in arriving:
            mistakes.add(here, f"two inputs arrive as {ref.output!r}", "outputs with names that differ")
        if not task.final and ref.output in [output.name for output in task.outputs]:
            mistakes.add(
                here, f"{ref.output!r} is an input and an output of {task.name!r}", "an output with a name of its own"
            )
        arriving.add(ref.output)
        inputs.append(ref)
        parents.append(ref.task)
    for index, one in zip(draft.fetches_at, task.fetches, strict=True):
        here, name = (*draft.path, "inputs", index), arrives_as(one)
        if name in arriving:
            mistakes.add(here, f"two inputs arrive as {name!r}", "a name of its own")
        elif name in [output.name for output in task.outputs]:
            mistakes.add(here, f"{name!r} is an input and an output of {task.name!r}", "a name of its own")
        arriving.add(name)
    return replace(task, after=tuple(dict.fromkeys(parents)), inputs=tuple(dict.fromkeys(inputs)))


def _parent(name: str, draft: Draft, drafts: Mapping[str, Draft], here: KeyPath, mistakes: Mistakes) -> bool:
    others = [other for other, about in drafts.items() if other != draft.task.name and not about.task.final]
    if name in others:
        return True
    if name == draft.task.name:
        mistakes.add(here, f"task {name!r} would wait for itself")
    elif name in drafts:
        mistakes.add(here, f"{name!r} is a final task, and nothing comes after it", "a task of the jobs")
    else:
        meant = nearest(name, others)
        expected = "" if meant else "one of " + ", ".join(others) if others else "another task, and there is none"
        mistakes.add(here, f"there is no task {name!r}", expected, meant)
    return False


def _check_kept(drafts: Mapping[str, Draft], mistakes: Mistakes) -> None:
    """Files that come home from one job, or from one group, stand in one folder."""
    read = {(ref.task, ref.output) for draft in drafts.values() if not draft.task.final for ref in draft.task.inputs}
    owners: dict[tuple[bool, str], str] = {}
    for name, draft in drafts.items():
        for index, output in zip(draft.outputs_at, draft.task.outputs, strict=True):
            kept = output.keep if output.keep is not None else not output.url and (name, output.name) not in read
            owner = owners.setdefault((draft.task.final, output.name), name) if kept else name
            if owner != name:
                mistakes.add(
                    (*draft.path, "outputs", index),
                    f"{output.name!r} is kept, and so is the {output.name!r} of task {owner!r}, in one folder",
                    "another name, or keep = false for one of them",
                )


def _ordered(drafts: Mapping[str, Draft], mistakes: Mistakes) -> list[Draft]:
    """Parents before children, otherwise as in the file; a circle is a mistake of its first task."""
    done: dict[str, Draft] = {}
    waiting = {name: draft for name, draft in drafts.items() if not draft.task.final}
    while waiting:
        ready = next((name for name, draft in waiting.items() if all(p not in waiting for p in draft.task.after)), None)
        if ready is None:
            circle = _circle(waiting)
            mistakes.add(
                waiting[circle[0]].path,
                "a circle of tasks: " + " -> ".join(circle),
                "tasks that do not wait for each other",
            )
            for name in circle[:-1]:
                done[name] = waiting.pop(name)
        else:
            done[ready] = waiting.pop(ready)
    return [*done.values(), *(draft for draft in drafts.values() if draft.task.final)]


def _circle(waiting: Mapping[str, Draft]) -> list[str]:
    path = [next(iter(waiting))]
    while True:
        parent = next(name for name in waiting[path[-1]].task.after if name in waiting)
        if parent in path:
            # from parent to child, as the data goes
            found = [*path[path.index(parent) :], parent][::-1]
            first = min(found[:-1], key=list(waiting).index)
            start = found.index(first)
            return [*found[start:-1], *found[:start], first]
        path.append(parent)

"""``icp graph``: the tasks of a steering file and what flows between them, as a tree, DOT or Mermaid (hides the notations)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from icp.dsl.steering import load
from icp.errors import BadInput
from icp.model.definition import Steering, TaskDef

__all__ = ["graph"]


def graph(
    file: Annotated[Path, typer.Argument(help="The steering file.", show_default=False)],
    dot: Annotated[bool, typer.Option("--dot", help="Graphviz: icp graph FILE --dot | dot -Tsvg > tasks.svg")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="For Markdown pages that draw Mermaid.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw the tasks of a job and the files between them.

    JSON: {"tasks": [{"name", "final"}], "edges": [{"from", "to", "files"}]}.

    Examples:

      icp graph steering.toml

      icp graph steering.toml --dot | dot -Tsvg > tasks.svg

    """
    if dot + mermaid + as_json > 1:
        raise BadInput("Only one of --dot, --mermaid and --json is possible.")
    steering = load(file)
    if dot:
        typer.echo(to_dot(steering))
    elif mermaid:
        typer.echo(to_mermaid(steering))
    elif as_json:
        tasks = [{"name": task.name, "final": task.final} for task in steering.all_tasks]
        edges = [{"from": parent, "to": child, "files": files} for parent, child, files in _edges(steering)]
        typer.echo(json.dumps({"tasks": tasks, "edges": edges}))
    else:
        typer.echo(to_tree(steering))


def _edges(steering: Steering) -> Iterator[tuple[str, str, list[str]]]:
    for task in steering.all_tasks:
        for parent in task.after:
            yield parent, task.name, [ref.output for ref in task.inputs if ref.task == parent]


def to_dot(steering: Steering) -> str:
    """The graph for Graphviz."""
    nodes = [f"  {_quoted(task.name)}{' [peripheries=2]' if task.final else ''};" for task in steering.all_tasks]
    lines = ["digraph {", "  rankdir=LR;", "  node [shape=box];", *nodes]
    for parent, child, files in _edges(steering):
        label = f" [label={_quoted(', '.join(files))}]" if files else " [style=dashed]"
        lines.append(f"  {_quoted(parent)} -> {_quoted(child)}{label};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_mermaid(steering: Steering) -> str:
    """The graph for Mermaid."""
    number = {task.name: f"t{task.index}" for task in steering.all_tasks}
    lines = ["flowchart LR"]
    for task in steering.all_tasks:
        left, right = ("[[", "]]") if task.final else ("[", "]")
        lines.append(f'  {number[task.name]}{left}"{task.name}"{right}')
    for parent, child, files in _edges(steering):
        label = ", ".join(files).replace('"', "#quot;")
        arrow = f'-- "{label}" -->' if files else "-.->"
        lines.append(f"  {number[parent]} {arrow} {number[child]}")
    return "\n".join(lines)


def to_tree(steering: Steering) -> str:
    """The graph as text: each task below the last of its parents, other parents named behind it."""
    children: dict[str, list[TaskDef]] = {}
    order = {task.name: task.index for task in steering.all_tasks}
    roots = []
    for task in steering.all_tasks:
        if task.after:
            children.setdefault(max(task.after, key=order.__getitem__), []).append(task)
        else:
            roots.append(task)
    jobs = steering.jobs.count
    lines = [f"{steering.name}: {jobs:,} job{'s' if jobs != 1 else ''}"]

    def draw(tasks: list[TaskDef], indent: str, parent: str) -> None:
        for task in tasks:
            last = task is tasks[-1]
            lines.append(f"{indent}{'└─ ' if last else '├─ '}{_label(task, parent)}")
            draw(children.get(task.name, []), indent + ("   " if last else "│  "), task.name)

    draw(roots, "", "")
    return "\n".join(lines)


def _label(task: TaskDef, parent: str) -> str:
    text = f"{task.name} (final)" if task.final else task.name
    files = [ref.output for ref in task.inputs if ref.task == parent]
    text += f"  <- {', '.join(files)}" if files else ""
    others = [other for other in task.after if other != parent]
    for other in others:
        found = [ref.output for ref in task.inputs if ref.task == other]
        text += f"  + {other}" + (f": {', '.join(found)}" if found else "")
    return text

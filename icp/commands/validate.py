"""``icp validate``: every mistake of a steering file at once (hides nothing but the printing)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from icp.commands.arguments import fetching
from icp.dsl.steering import load
from icp.dsl.units import show_duration, show_size
from icp.errors import BadInput
from icp.model.definition import Resources, Steering

__all__ = ["validate"]


def validate(
    file: Annotated[Path, typer.Argument(help="The steering file, or a submit file or batch script.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a steering file, and show what would be submitted.

    Exit code 2 when it has mistakes; warnings do not count. Modules that it names by URL are fetched, and kept.
    JSON: {"ok", "mistakes", "warnings", "name", "jobs", "tasks"}.

    Examples:

      icp validate steering.toml

    """
    from icp.engine.modules import Fetcher

    try:
        with fetching():
            steering = load(file, Fetcher())
    except BadInput as error:
        if not as_json:
            raise
        mistakes = list(error.mistakes) or [error.message]
        typer.echo(json.dumps({"ok": False, "mistakes": mistakes, "warnings": []}))
        raise typer.Exit(error.code) from None
    if as_json:
        tasks = [task.name for task in steering.all_tasks]
        warnings = list(steering.warnings)
        found = {"ok": True, "mistakes": [], "warnings": warnings, "name": steering.name, "jobs": steering.jobs.count}
        typer.echo(json.dumps({**found, "tasks": tasks}))
        return
    for warning in steering.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(_summary(steering))


def _summary(steering: Steering) -> str:
    count = len(steering.tasks)
    jobs = steering.jobs.count
    many = f"{jobs:,} job{'s' if jobs != 1 else ''} x {count} task{'s' if count != 1 else ''} = {jobs * count:,}"
    if steering.jobs.source:
        # what is there is looked at when it is submitted
        each = "each group of files" if steering.jobs.grouped else "each file"
        many = f"a job of {count} task{'s' if count != 1 else ''} for {each} of {steering.jobs.source}"
    lines = [
        f"{steering.path} is valid: dataset {steering.name}, {many}"
        + (f", and {len(steering.finals)} final" if steering.finals else "")
        + "."
    ]
    width = max(len(task.name) for task in steering.all_tasks)
    for task in steering.all_tasks:
        after = f"  after {', '.join(task.after)}" if task.after else ""
        lines.append(f"  {task.name:<{width}}  {resources_text(task.resources)}{after}")
    return "\n".join(lines)


def resources_text(resources: Resources) -> str:
    """``1 cpu, 2 GB, 1 GB disk, 1 h``; expressions as they are written."""
    cpus, gpus = resources.cpus, resources.gpus
    parts = [f"{cpus} cpu{'s' if cpus != 1 else ''}"]
    if gpus != 0:
        parts.append(f"{gpus} gpu{'s' if gpus != 1 else ''}")
    memory, disk, time = resources.memory, resources.disk, resources.time
    parts.append(memory if isinstance(memory, str) else show_size(int(memory)))
    parts.append((disk if isinstance(disk, str) else show_size(int(disk))) + " disk")
    parts.append(time if isinstance(time, str) else show_duration(int(time)))
    return ", ".join(parts)

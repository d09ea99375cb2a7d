"""``icp expand``: what one job will run, with every expression evaluated (hides the stand-in for a site)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from icp.commands.validate import resources_text
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.steering import load
from icp.dsl.values import seed_of
from icp.errors import NotFound
from icp.model.definition import Resources, Steering, TaskDef
from icp.model.need import Disjunction

__all__ = ["expand"]


class _Shown(dict[str, Any]):
    """Attributes and system values of no site in particular: each stands as the expression that asks for it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> str:
        return f"<{self.name} {key}>"


def expand(
    file: Annotated[Path, typer.Argument(help="The steering file, or a submit file or batch script.", show_default=False)],
    job: Annotated[int, typer.Option("--job", "-j", help="Which job, from 0.")] = 0,
    task: Annotated[str, typer.Option("--task", "-t", help="Only this task.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what a job will run: arguments, commands, resources, requirements, outputs.

    The dataset's seed is 0 here unless the file gives one, and what only a site knows is shown as <attr NAME> or <system NAME>.
    Final tasks are shown for their first group. JSON: {"dataset", "job", "seed", "args", "tasks"}.

    Examples:

      icp expand steering.toml --job 3

      icp expand steering.toml --task simulate --json

    """
    steering = load(file)
    if not 0 <= job < steering.jobs.count:
        last = steering.jobs.count - 1
        raise NotFound(f"{file} has no job {job}.", f"Its jobs are 0 to {last}.")
    tasks = [about for about in steering.all_tasks if task in ("", about.name)]
    if not tasks:
        raise NotFound(
            f"{file} has no task {task}.", "Its tasks: " + ", ".join(about.name for about in steering.all_tasks)
        )
    found = _expanded(steering, job, tasks)
    typer.echo(json.dumps(found) if as_json else _text(found))


def _expanded(steering: Steering, job: int, tasks: list[TaskDef]) -> dict[str, Any]:
    seed = steering.seed or 0
    row = steering.jobs.row(job)
    own = JobContext(steering.name, seed, job, steering.jobs.count, row)
    site = SiteContext("<site>", _Shown("attr"), _Shown("system"))
    shown = []
    for task in tasks:
        renderer = Renderer(steering, task)
        context = own
        if task.final:
            context = JobContext(steering.name, seed, -1, steering.jobs.count, {}, renderer.group(own))
        need = renderer.need(context)
        rendered = renderer.render(context, site)
        shown.append(
            {
                "task": task.name,
                "final": task.final,
                "seed": context.row.get("seed", seed_of(seed, context.job, task.name)),
                "group": context.group,
                "after": list(task.after),
                "inputs": [f"{ref.task}:{ref.output}{'[*]' if ref.every else ''}" for ref in task.inputs],
                "resources": {
                    "cpus": need.cpus,
                    "memory": need.memory,
                    "disk": need.disk,
                    "gpus": need.gpus,
                    "time": need.time,
                },
                "requirements": [[list(term) for term in clause] for clause in need.any],
                "steps": rendered.steps,
                "outputs": rendered.out,
                "fetch": rendered.fetch,
            }
        )
    return {"dataset": steering.name, "job": job, "seed": seed, "args": row, "tasks": shown}


def _text(found: dict[str, Any]) -> str:
    lines = [f"dataset {found['dataset']}, job {found['job']}, dataset seed {found['seed']}"]
    lines += [f"  $args({name}) = {value}" for name, value in found["args"].items()]
    for task in found["tasks"]:
        lines += ["", f"{'final ' if task['final'] else ''}task {task['task']}  ($args(seed) = {task['seed']})"]
        if task["after"]:
            lines.append(f"  after         {', '.join(task['after'])}")
        if task["inputs"]:
            lines.append(f"  inputs        {', '.join(task['inputs'])}")
        for fetch in task["fetch"]:
            lines.append(f"  fetches       {fetch['name']}  <- {fetch['from'][1]}")
        lines.append(f"  resources     {resources_text(Resources(**task['resources']))}")
        lines.append(f"  requirements  {requirements_text(task['requirements'])}")
        for step in task["steps"]:
            runs = _command(step["argv"]) if "argv" in step else _python(step["python"])
            lines += [f"  runs          {runs}".replace("\n", "\n" + " " * 16)]
        for output in task["outputs"]:
            where = f"  -> {output['url']}" if output.get("url") else ""
            lines.append(f"  output        {output['name']}{where}{'  (optional)' if output['optional'] else ''}")
    return "\n".join(lines)


def requirements_text(clauses: Disjunction | list[list[list[Any]]]) -> str:
    """``CPU == true``, ``(A >= 5 and B == "x") or C != true``."""
    shown = [" and ".join(f"{name} {op} {json.dumps(value)}" for name, op, value in clause) for clause in clauses]
    if not shown:
        return "can never match"
    if len(shown) == 1:
        return shown[0] or "none"
    return " or ".join(f"({text})" for text in shown)


def _command(argv: list[Any]) -> str:
    if argv[:3] == ["/bin/sh", "-e", "-c"]:
        return str(argv[3])
    return json.dumps([_element(part) for part in argv], ensure_ascii=False)


def _python(step: dict[str, Any]) -> str:
    """``Level2 of level2.py  infile = "x", cuts = {"zenith": 85.0}``"""
    params = json.loads(json.dumps(step["params"]))
    for path, element in step.get("marks", ()):
        place = params
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = _element(element)
    said = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in params.items())
    return f"{step['class']} of {step.get('file') or step['module']}" + (f"  {said}" if said else "")


def _element(part: Any) -> str:
    if isinstance(part, dict):
        return f"<{part['node']}>"
    return part if isinstance(part, str) else "".join(_element(piece) for piece in part)

"""`icp show`: everything about a dataset, a job, or a task (hides only how it is laid out)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import (
    AsJson,
    DatasetName,
    OneJob,
    OneTask,
    job_number,
    job_text,
    open_here,
    plural,
    task_of,
    the_dataset,
)
from icp.commands.jobs import JOB_COLOURS
from icp.errors import NotFound
from icp.output import clean, paint, say

if TYPE_CHECKING:
    from icp.ledger.definitions import Graph
    from icp.ledger.views import DatasetView
    from icp.ledger.views_jobs import AttemptView, TaskView
    from icp.ledger.views_results import OutputView

__all__ = ["show", "software_text"]

LINES = 20
"""Lines of an error's text that are shown."""


def show(
    dataset: DatasetName,
    job: OneJob = None,
    task: OneTask = None,
    steering: Annotated[bool, typer.Option("--steering", help="Print the steering file as it was submitted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a dataset: definitions, statistics, sites, what was ordered. With --job its tasks; with --task too their attempts.

    Examples:

      icp show muons

      icp show muons --job 17 --task detect

      icp show muons --steering > again.toml
    """
    from icp.ledger import views, views_jobs
    from icp.ledger.definitions import Definitions

    ledger = open_here()
    with ledger.read() as db:
        number = the_dataset(ledger, dataset)
        if steering:
            text = views_jobs.steering_text(db, number)[0]
        graph = Definitions(db).graph(number)
        view = views.one_dataset(db, number)
        definition = task_of(graph, task)
        at = job_number(job, view.jobs, definition)
        if steering:
            pass
        elif at is None:
            shown = _dataset(db, view, definition.name if definition else None)
        else:
            shown = _job(db, graph, view, at, definition.id if definition else None)
    if steering:
        typer.echo(text, nl=False)
    elif as_json:
        output.print_json(shown)
    elif at is None:
        _print_dataset(view, shown)
    else:
        _print_job(view, shown, wide=definition is None)


def _dataset(db: Any, view: DatasetView, only: str | None) -> dict[str, Any]:
    from icp.commands import story
    from icp.ledger import views_jobs
    from icp.ledger.change import limits

    told = story.read(db, view, time.time())
    _, seed, directory = views_jobs.steering_text(db, view.number)
    held = [
        {"first": low, "last": high, "state": word} for low, high, word in views_jobs.spans(db, view.number, 0, view.jobs - 1) if word != "rows"
    ]
    most, sites = limits(db, view.number)
    return {
        "dataset": view, "seed": seed, "directory": directory, "limits": {"max_running": most, "sites": sites},
        "definitions": _of(told.definitions, only), "held": held,
        "statistics": _of(told.statistics, only), "errors": _of(told.errors, only), "commands": views_jobs.commands(db, view.number),
        "progress": told.progress, "work": _of(told.work, only),
    }  # fmt: skip


def _of(rows: list[Any], only: str | None) -> list[Any]:
    return [one for one in rows if only in (None, one.task)]


def _print_dataset(view: DatasetView, shown: dict[str, Any]) -> None:
    from icp.commands import story
    from icp.commands.stats import lines

    now = time.time()
    for text in story.facts(view, shown["progress"]):
        say(text)
    limits = shown["limits"]
    facts = [
        ("jobs", f"{view.jobs:,}"),
        ("outputs", clean(view.outputs)),
        ("steering", f"from {clean(shown['directory'])}; `icp show {clean(view.name)} --steering`"),
        ("seed", str(shown["seed"])),
        ("priority", str(view.priority)),
        ("category", clean(view.category) or "-"),
        *([("at once", f"{limits['max_running']:,} tasks at the most")] if limits["max_running"] is not None else []),
        *([("sites", clean(", ".join(limits["sites"])))] if limits["sites"] is not None else []),
        ("submitted", f"{output.clock(view.submitted)} ({output.ago(view.submitted, now)})"),
        ("finished", output.clock(view.finished)),
    ]
    for word, text in facts:
        say(f"  {word:<10} {text}")
    held = []
    for one in shown["held"]:
        span = str(one["first"]) if one["first"] == one["last"] else f"{one['first']}-{one['last']}"
        held.append(f"jobs {span} are {one['state']}: no rows yet")
    ordered = [f"  {output.clock(one.at)} {clean(one.who)}: {clean(one.what)} {clean(one.detail or '')}".rstrip() for one in shown["commands"]]
    for part in (
        [*story.definitions(shown["definitions"]), *held], story.shares(shown["work"], shown["definitions"]),
        lines(shown["statistics"]) if shown["statistics"] else [], story.errors(shown["errors"])[1:], [paint("commands", "bold"), *ordered] if ordered else [],
    ):  # fmt: skip
        if part:
            say()
        for text in part:
            say(text)


def _job(db: Any, graph: Graph, view: DatasetView, job: int, definition: int | None) -> dict[str, Any]:
    from icp.ledger import views_jobs, views_results

    only = None if definition is None else graph.defs[definition]
    tasks = views_jobs.tasks(db, graph, job, job, task=only)
    if not tasks and job < 0:
        raise NotFound(f"dataset {view.name} has no final task in {job_text(job)} yet", f"`icp why {view.name}` says what is left before it")
    state = views_jobs.job_states(db, graph, job).state if job >= 0 else None
    outputs = list(views_results.outputs(db, graph, first=job, last=job, task=only, every=True))
    return {
        "job": job if job >= 0 else None, "group": None if job >= 0 else -1 - job, "state": state,
        "tasks": [{"task": one, "attempts": views_jobs.attempts(db, one.id)} for one in tasks], "outputs": outputs,
    }  # fmt: skip


def _print_job(view: DatasetView, shown: dict[str, Any], *, wide: bool) -> None:
    name = job_text(shown["job"], shown["group"])
    head = f"job {name} of {clean(view.name)}"
    say(paint(head, "bold") + (f": {paint(shown['state'], JOB_COLOURS.get(shown['state'], ''))}" if shown["state"] else ""))
    if not shown["tasks"]:
        say(f"it is no row yet; `icp why {clean(view.name)} --job {name}`")
    _timeline(shown["tasks"])
    for entry in shown["tasks"]:
        task: TaskView = entry["task"]
        tries: list[AttemptView] = entry["attempts"]
        say()
        waits = f", waits for {plural(task.waiting_on, 'task')}" if task.waiting_on else ""
        tried = f"{task.tries} {'try' if task.tries == 1 else 'tries'}"
        say(f"{paint(clean(task.task), 'bold')} {paint(task.state, JOB_COLOURS.get(task.state, ''))}, {tried}{waits}")
        for one in tries[-3:] if wide else tries:
            _attempt(one)
        for file in shown["outputs"]:
            if file.task == task.task:
                _output(file)


def _timeline(entries: list[dict[str, Any]]) -> None:
    from icp.commands.plots import timeline

    rows = []
    for entry in entries:
        for one in entry["attempts"]:
            if one.begun is not None and one.running is not None:
                good = one.state == "ok" and not one.void
                phases = [(one.copying_input or 0.0, "░", "blue"), (one.running, "█", "green" if good else "red"), (one.copying_output or 0.0, "▒", "blue")]
                rows.append((f"{clean(entry['task'].task)} {one.number} {clean(one.site)}", one.begun, phases))
    if rows:
        for text in ["", *timeline(rows), paint("  ░ inputs  █ run  ▒ outputs", "dim")]:
            say(text)


def _attempt(one: AttemptView) -> None:
    void = ", void" if one.void else ""
    where = f"at {clean(one.site)}" + (f" on {clean(one.host)}" if one.host else "")
    exit_ = "" if one.exit is None else f", exit {one.exit}"
    state = paint(one.state, JOB_COLOURS.get(one.state, "red" if one.state in ("error", "lost") else ""))
    say(f"  try {one.number} {state}{void} {where}{exit_}  {one.attempt}")
    if one.heard is not None:
        word, at = one.heard
        say(f"    {word} at {output.clock(at)}, its batch job says; what counts comes when that ends")
    if one.begun is not None:
        phases = [("inputs", one.copying_input), ("run", one.running), ("outputs", one.copying_output)]
        spent = ", ".join(f"{word} {output.duration(seconds)}" for word, seconds in phases if seconds is not None)
        usage = f"cpu {output.duration(one.cpu or 0)}, memory {output.plain_size(one.memory or 0)}"
        for text in output.folded(f"    {output.clock(one.begun)}  {spent}; {usage}", " " * 25):
            say(text)
    for moved in one.transfers:
        verb = {"fetched": "fetched", "cache": "from the site's cache:", "stored": "stored"}[moved.how]
        say(f"    {verb} {clean(moved.name)}  {output.plain_size(moved.bytes)} in {output.duration(moved.seconds)}  {clean(moved.url)}")
    for name, value in one.stats.items():
        say(f"    {clean(name)} = {value:g}")
    for name, had in one.software.items():
        say(f"    software {clean(name)}: {clean(software_text(had))}")
    if one.kind is not None:
        say(paint(f"    {clean(one.kind)} error", "red"))
        _text(one.text or "", LINES)


def software_text(had: dict[str, Any]) -> str:
    """What an attempt had of an environment, on one line."""
    words = [str(had.get("way", "?"))]
    words += [f"{name} revision {revision}" for name, revision in (had.get("revision") or {}).items()]
    words += [f"tarball {had['tarball'][:16]}"] if had.get("tarball") else []
    words += [str(had.get("platform", ""))] + ([f"Python {had['python']}"] if had.get("python") else [])
    return ", ".join(word for word in words if word)


def _output(file: OutputView) -> None:
    place = clean(file.path) if file.path and file.state == "home" else f"{clean(file.name)} ({file.state} at {clean(file.site)})"
    say(f"  output {place}  {output.plain_size(file.bytes)}  sha256 {file.sha256[:16]}")


def _text(text: str, most: int) -> None:
    for line in output.clean_lines(text).rstrip("\n").split("\n")[-most:]:
        say(f"    | {line}")

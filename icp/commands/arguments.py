"""Arguments and options that several commands share: datasets, jobs, tasks, and the ledger they are looked up in (hides where it is)."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.commands.complete import dataset_names, site_names
from icp.errors import BadInput, NotFound
from icp.places import check_host, places
from icp.states import Task

if TYPE_CHECKING:
    from icp.ledger.db import Ledger
    from icp.ledger.definitions import Graph, TaskDefRow

__all__ = [
    "ALL",
    "AsJson",
    "Category",
    "DatasetName",
    "Jobs",
    "Limit",
    "OneJob",
    "OneTask",
    "Quiet",
    "SiteName",
    "TheSite",
    "Yes",
    "all_jobs",
    "choose",
    "chosen_limit",
    "confirm",
    "fetching",
    "job_number",
    "job_spans",
    "job_text",
    "jobs_text",
    "ledger_path",
    "open_here",
    "plural",
    "state_option",
    "task_of",
    "the_dataset",
]  # fmt: skip

DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="Name, number, or a unique beginning of a name.", show_default=False, autocompletion=dataset_names)
]
Jobs = Annotated[
    list[str] | None,
    typer.Option("--job", "--jobs", "-j", metavar="JOBS", help="Jobs: 17, or 100-199, or a list such as 1-5,8,12- (to the last).", show_default=False),
]
OneJob = Annotated[
    str | None, typer.Option("--job", "-j", metavar="N", help="A job's number; `final`, or `final/3` for a group of a final task.", show_default=False)
]
OneTask = Annotated[str | None, typer.Option("--task", "-t", metavar="TASK", help="A task's name in the steering file.", show_default=False)]
SiteName = Annotated[str | None, typer.Option("--site", metavar="SITE", help="Only what is at this site.", show_default=False, autocompletion=site_names)]
Category = Annotated[str | None, typer.Option("--category", metavar="TEXT", help="Only datasets of this category.", show_default=False)]
TheSite = Annotated[str, typer.Argument(metavar="SITE", help="Name of the site.", show_default=False, autocompletion=site_names)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON (its shape is in docs/json.md).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print names only, one a line.")]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Rows at the most.")]
ALL = Annotated[bool, typer.Option("--all", help="All rows, however many.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def open_here() -> Ledger:
    """The user's ledger; NotFound where there is none."""
    from icp.ledger.db import open_ledger

    return open_ledger(ledger_path())


def ledger_path() -> Path:
    """The ledger's file. Looking is to be quick: only this key of the configuration is read, and all of it only to tell its mistakes."""
    where = places()
    if not where.config.exists():
        return where.ledger
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with where.config.open("rb") as file:
            table = tomllib.load(file)
    except (OSError, ValueError):
        table = {"ledger": None}
    said = table.get("ledger", {})
    path = said.get("path") if isinstance(said, dict) else None
    if said == {}:
        return where.ledger
    if isinstance(path, str) and path and Path(path).expanduser().is_absolute():
        check_host(where, Path(path).expanduser())
        return Path(path).expanduser()
    from icp import config

    return config.load().ledger


def choose(value: str | None, known: tuple[str, ...], option: str) -> str | None:
    """The value of an option if it is one of those known; BadInput names the nearest."""
    if value is None or value in known:
        return value
    near = difflib.get_close_matches(value, known, 1)
    raise BadInput(f"{option} {value}: expected one of {', '.join(known)}", f"did you mean {near[0]}?" if near else None)


def the_dataset(ledger: Ledger, text: str) -> int:
    """The number of the dataset that the user means."""
    from icp.ledger.views import find_dataset

    return find_dataset(ledger.db, text)


def task_of(graph: Graph, name: str | None) -> TaskDefRow | None:
    """The definition of this name; NotFound names the nearest."""
    if name is None:
        return None
    row = graph.by_name(name)
    if row is None:
        names = [one.name for one in graph.defs.values()]
        near = difflib.get_close_matches(name, names, 1)
        raise NotFound(f"there is no task {name!r} in this dataset", f"did you mean {near[0]}?" if near else f"its tasks are {', '.join(names)}")
    return row


_JOBS = "expected a job such as 17, a range such as 100-199 or 100-, or a list such as 1-5,8,12-"


def job_spans(texts: list[str] | None, jobs: int, task: TaskDefRow | None = None, *, finals: bool = False) -> list[tuple[int, int]]:
    """The jobs of ``--job`` as ranges, each job once and in order; all of them without it.

    ``finals``: groups of a final task may be meant, which are negative numbers: ``final/3``, or ``3`` where ``task`` is a final one.
    """
    if not texts:
        return [(0, jobs - 1)]
    found = sorted(_span(part.strip(), jobs, task, finals) for text in texts for part in text.split(","))
    spans = found[:1]
    for low, high in found[1:]:
        if low <= spans[-1][1] + 1 and (low < 0) == (spans[-1][1] < 0):
            spans[-1] = (spans[-1][0], max(high, spans[-1][1]))
        else:
            spans.append((low, high))
    return spans


def _span(text: str, jobs: int, task: TaskDefRow | None, finals: bool) -> tuple[int, int]:
    if finals and text.startswith("final"):
        at = job_number(text, jobs, task)
        assert at is not None
        return at, at
    final = task is not None and task.final
    if final and not finals:
        raise BadInput(f"--job {text}: {task.name if task else ''} is a final task, which is ordered as a whole", "leave --job out")
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdigit() and (not last or (last.isascii() and last.isdigit()))):
        raise BadInput(f"--job {text or repr(text)}: {_JOBS}")
    low = int(first)
    high = int(last) if last else low if not dash or final else max(low, jobs - 1)
    if high < low:
        raise BadInput(f"--job {text}: the range ends before it begins")
    if final:
        return -1 - high, -1 - low
    if high >= jobs:
        raise BadInput(f"--job {text}: this dataset has {f'jobs 0 to {jobs - 1}' if jobs else 'no job yet'}")
    return low, high


def jobs_text(spans: list[tuple[int, int]]) -> str:
    """``job 3``, ``jobs 1-5, 8``."""
    said = [str(low) if low == high else f"{low}-{high}" for low, high in spans]
    if len(said) > 8:
        said = [*said[:7], f"and {len(said) - 7} ranges more"]
    return ("job " if len(spans) == 1 and spans[0][0] == spans[0][1] else "jobs ") + ", ".join(said)


def job_number(text: str | None, jobs: int, task: TaskDefRow | None) -> int | None:
    """The number of ``--job``, negative for a final task's group; BadInput when the dataset has no such job."""
    final = task is not None and task.final
    if text is None:
        return -1 if final else None
    word, slash, group = text.partition("/")
    if word == "final" and (not slash or group.isdigit()):
        if task is not None and not final:
            raise BadInput(f"--job {text}: task {task.name} is not a final task", f"`--job 0 --task {task.name}`")
        return -1 - int(group or 0)
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"--job {text}: expected a job's number, `final` or `final/GROUP`")
    if final:
        return -1 - int(text)
    if int(text) >= jobs:
        raise NotFound(f"--job {text}: this dataset has {f'jobs 0 to {jobs - 1}' if jobs else 'no job yet'}")
    return int(text)


def job_text(job: int | None, group: int | None = None) -> str:
    """How a job is written, as ``--job`` takes it."""
    if job is not None and job >= 0:
        return str(job)
    number = group if group is not None else -1 - (job if job is not None else -1)
    return f"final/{number}" if number else "final"


def all_jobs(graph_jobs: int) -> tuple[int, int]:
    """From the last final group to the last job."""
    return (-(10**12), graph_jobs - 1)


def chosen_limit(limit: int, every: bool) -> int | None:
    return None if every else limit


def state_option(value: str | None) -> str | None:
    """``--state`` of a task."""
    return choose(value, tuple(state.name.lower() for state in Task), "--state")


def plural(n: int, one: str) -> str:
    """``1 job``, ``2,000 jobs``."""
    return f"{n:,} {one}{'' if n == 1 else 's'}"


@contextlib.contextmanager
def fetching() -> Iterator[None]:
    """A person waits for what is fetched inside of this, and sees how far it is."""
    from icp.engine.downloads import watched

    progress = output.Progress()
    try:
        with watched(progress):
            yield
    finally:
        progress.close()


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal, unless ``--yes``; what is not a terminal is not asked."""
    if not yes and sys.stdin.isatty() and sys.stdout.isatty() and not typer.confirm(question, default=False):
        raise BadInput("nothing was changed")

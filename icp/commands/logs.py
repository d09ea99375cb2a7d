"""`icp logs`: what a task printed, from its site's log packs (hides packs, offsets and tails)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icp import output
from icp.backends.base import Transport
from icp.backends.files import read_part
from icp.backends.transport import LocalTransport
from icp.commands.arguments import (
    AsJson,
    DatasetName,
    OneJob,
    OneTask,
    job_number,
    job_text,
    open_here,
    task_of,
    the_dataset,
)
from icp.errors import BadInput, NotFound, Unreachable
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.ledger.db import Ledger
    from icp.ledger.views_jobs import AttemptView, TaskView

__all__ = ["Follower", "Log", "Spool", "Tail", "logs", "read_log", "read_tail"]

PAUSE, FAR_PAUSE = 0.5, 3.0
"""Seconds between two looks at a log that grows: here, and on another host."""
TAIL_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Log:
    """What an attempt printed."""

    out: bytes
    err: bytes


@dataclass(frozen=True, slots=True)
class Spool:
    """The spool of a site, wherever that is; ``pause`` in seconds between two looks at it."""

    root: Path
    transport: Transport = field(default_factory=LocalTransport)
    pause: float = PAUSE

    @classmethod
    def of(cls, ledger: Ledger, site: str) -> Spool:
        """As the last engine used it; NotFound before the first tick there."""
        from icp import config
        from icp.engine.lines import transport
        from icp.ledger.views_results import spool_place

        with ledger.read() as db:
            root = spool_place(db, site)
        if root is None:
            raise NotFound(f"no tick has reached site {site} yet", "`icp run`")
        loaded = config.load()
        known = loaded.sites.get(site)
        return cls(root) if known is None or known.host is None else cls(root, transport(loaded, known), FAR_PAUSE)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """A part of a file below ``logs/``."""
        return read_part(self.transport, self.root / "logs" / name, offset, length)


def read_log(spool: Spool, card: str, offset: int, out: int, err: int) -> Log:
    """The bytes of one attempt in its card's pack; Unreachable when the pack is not there, or shorter than it was."""
    path = spool.root / "logs" / card
    try:
        data = spool.read(card, offset, out + err)
    except NotFound as error:
        raise Unreachable(f"the log at {error.message}", "it is kept at the site for a while only; errors are in `icp show`") from None
    if len(data) < out + err:
        raise Unreachable(f"the log at {path} is shorter than it was: {offset + len(data)} bytes instead of {offset + out + err}")
    return Log(data[:out], data[out:])


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of what a running attempt printed: ``*_begin`` are the offsets at which it begins."""

    out_begin: int
    out: bytes
    err_begin: int
    err: bytes


def read_tail(spool: Spool, attempt: str) -> Tail | None:
    """What a running attempt printed last; None while there is nothing."""
    try:
        data = spool.read(f"{attempt}.tail", 0, TAIL_LIMIT)
        head, _, rest = data.partition(b"\n")
        said = json.loads(head)
        (out_begin, out), (err_begin, err) = said["out"], said["err"]
        return Tail(int(out_begin), rest[:out], int(err_begin), rest[out : out + err])
    except (NotFound, ValueError, KeyError, TypeError):
        return None


class Follower:
    """Which bytes of a task's two streams were shown already."""

    def __init__(self) -> None:
        self.out = self.err = 0

    def fresh(self, tail: Tail) -> tuple[bytes, bytes]:
        """What the tail adds; bytes that went by between two looks are missing."""
        out, err = tail.out[max(0, self.out - tail.out_begin) :], tail.err[max(0, self.err - tail.err_begin) :]
        self.out = max(self.out, tail.out_begin + len(tail.out))
        self.err = max(self.err, tail.err_begin + len(tail.err))
        return out, err

    def rest(self, log: Log) -> tuple[bytes, bytes]:
        """What is in the log and was not shown (a log that was cut in its middle is no help)."""
        return log.out[self.out :], log.err[self.err :]


def logs(
    dataset: DatasetName,
    job: OneJob = None,
    task: OneTask = None,
    number: Annotated[int | None, typer.Option("--try", metavar="K", min=1, help="This try, not the accepted or the last one.", show_default=False)] = None,
    stdout: Annotated[bool, typer.Option("--stdout", help="Standard output alone.")] = False,
    stderr: Annotated[bool, typer.Option("--stderr", help="Standard error alone.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow a task that runs, until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a task wrote to standard output and standard error.

    Without --task: the one task of the job, or the one that failed, or the one that runs.

    Examples:

      icp logs muons --job 17

      icp logs muons --job 17 --task detect --try 1 --stderr

      icp logs muons --job 17 -f
    """
    if job is None and task is None:
        raise BadInput("which job? `--job N` is missing", f"`icp jobs {dataset} --state failed` lists those that failed")
    if stdout and stderr:
        stdout = stderr = False
    ledger = open_here()
    one, attempt = _find(ledger, dataset, job, task, number)
    if attempt.state in ("queued", "claimed", "copying_input", "running", "copying_output"):
        if follow:
            _follow(ledger, one, attempt)
        else:
            _tail(ledger, one, attempt, as_json=as_json)
        return
    log = _log(ledger, attempt)
    if as_json:
        output.print_json({"job": one.job, "group": one.group, "task": one.task, "try": attempt.number, "state": attempt.state,
                           "stdout": None if log is None else log.out.decode("utf-8", "replace"),
                           "stderr": None if log is None else log.err.decode("utf-8", "replace")})  # fmt: skip
        return
    if log is None:
        raise NotFound(
            f"try {attempt.number} of task {one.task} in job {job_text(one.job, one.group)} ended {attempt.state} and left no log",
            f"`icp why {dataset} --job {job_text(one.job, one.group)} --task {one.task}`",
        )
    _write(log, stdout, stderr, one, attempt)


def _find(ledger: Ledger, dataset: str, job: str | None, task: str | None, number: int | None) -> tuple[TaskView, AttemptView]:
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset
    from icp.ledger.views_jobs import attempts, tasks

    with ledger.read() as db:
        found = the_dataset(ledger, dataset)
        graph = Definitions(db).graph(found)
        definition = task_of(graph, task)
        at = job_number(job, one_dataset(db, found).jobs, definition)
        if at is None:
            raise BadInput("which job? `--job N` is missing")
        rows = tasks(db, graph, at, at, task=definition)
        one = _choose(rows, at)
        tries = attempts(db, one.id)
    if number is not None:
        for attempt in tries:
            if attempt.number == number:
                return one, attempt
        raise NotFound(f"task {one.task} in job {job_text(at)} has no try {number}", f"it has {len(tries)}")
    for attempt in tries:
        if attempt.attempt == one.attempt:
            return one, attempt
    raise NotFound(f"task {one.task} in job {job_text(at)} is {one.state}: it never ran", f"`icp why {dataset} --job {job_text(at)} --task {one.task}`")


def _choose(rows: list[TaskView], job: int) -> TaskView:
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise NotFound(f"job {job_text(job)} is no row yet: none of its tasks ever ran")
    for state in ("failed", "processing"):
        some = [row for row in rows if row.state == state]
        if len(some) == 1:
            return some[0]
    raise BadInput(f"job {job_text(job)} has {len(rows)} tasks: {', '.join(row.task for row in rows)}", "say which one: `--task TASK`")


def _log(ledger: Ledger, attempt: AttemptView) -> Log | None:
    return None if attempt.log is None else read_log(Spool.of(ledger, attempt.site), *attempt.log)


def _write(log: Log, stdout: bool, stderr: bool, one: TaskView, attempt: AttemptView) -> None:
    """On a terminal escaped and with a head; in a pipe byte for byte."""
    parts = [log.out] * (not stderr) + [log.err] * (not stdout)
    if not sys.stdout.isatty():
        sys.stdout.flush()
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return
    head = f"job {job_text(one.job, one.group)}, task {clean(one.task)}, try {attempt.number}, {attempt.state} at {clean(attempt.site)}"
    output.say(paint(head, "bold"))
    names = ["stdout"] * (not stderr) + ["stderr"] * (not stdout)
    for name, part in zip(names, parts, strict=True):
        if part:
            output.say(paint(f"-- {name}", "dim"))
            output.say(output.clean_lines(part.decode("utf-8", "replace")).rstrip("\n"))


def _tail(ledger: Ledger, one: TaskView, attempt: AttemptView, *, as_json: bool) -> None:
    tail = read_tail(Spool.of(ledger, attempt.site), attempt.attempt)
    if as_json:
        output.print_json({"job": one.job, "group": one.group, "task": one.task, "try": attempt.number, "state": attempt.state,
                           "stdout": None if tail is None else tail.out.decode("utf-8", "replace"),
                           "stderr": None if tail is None else tail.err.decode("utf-8", "replace")})  # fmt: skip
    elif tail is None:
        output.warn(f"task {clean(one.task)} is {attempt.state}; it has printed nothing that reached the spool yet (-f waits)")
    else:
        _print(tail.out, tail.err)


def _print(out: bytes, err: bytes) -> None:
    terminal = sys.stdout.isatty()
    for part in (out, err):
        if part:
            if terminal:
                sys.stdout.write(output.clean_lines(part.decode("utf-8", "replace")))
            else:
                sys.stdout.flush()
                sys.stdout.buffer.write(part)
                sys.stdout.buffer.flush()
    sys.stdout.flush()


def _follow(ledger: Ledger, one: TaskView, attempt: AttemptView) -> None:
    """Print what comes until the attempt ended, then what the last look left out."""
    spool = Spool.of(ledger, attempt.site)
    follower = Follower()
    for current in _ticks(ledger, one, attempt, spool.pause):
        attempt = current
        tail = read_tail(spool, attempt.attempt)
        if tail is not None:
            _print(*follower.fresh(tail))
    log = _log(ledger, attempt)
    if log is not None:
        _print(*follower.rest(log))
    output.warn(f"task {clean(one.task)} in job {job_text(one.job, one.group)} ended: {attempt.state}")


def _ticks(ledger: Ledger, one: TaskView, attempt: AttemptView, pause: float) -> Iterator[AttemptView]:
    from icp.ledger.views_jobs import attempts

    while True:
        with ledger.read() as db:
            current = next(row for row in attempts(db, one.id) if row.attempt == attempt.attempt)
        yield current
        if current.since is None:
            return
        time.sleep(pause)

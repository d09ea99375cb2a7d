"""`icp verify`: whether outputs at home still are what was recorded (hides only the printing)."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from icp import output
from icp.commands.arguments import (
    AsJson,
    DatasetName,
    Jobs,
    OneTask,
    job_spans,
    job_text,
    open_here,
    plural,
    task_of,
    the_dataset,
)
from icp.errors import Failed, Unreachable
from icp.output import clean, paint, say

if TYPE_CHECKING:
    from icp.ledger.views_results import OutputView

__all__ = ["progress", "verify"]

SHOWN = 20


def verify(dataset: DatasetName, job: Jobs = None, task: OneTask = None, as_json: AsJson = False) -> None:
    """Read a dataset's outputs at home and compare their sha256 with the ledger's. Nothing is changed.

    Exit code 0: all are there, the same bytes; 1: some are gone or others; 5: none is wrong, and some are not home yet.

    Examples:

      icp verify muons

      icp verify muons --job 0-99 && rm -r /backup/old
    """
    from icp.commands.reasons.chains import changed_sentence
    from icp.engine import verification
    from icp.ledger import chaining
    from icp.ledger.definitions import Definitions
    from icp.ledger.views import one_dataset

    ledger = open_here()
    with ledger.read() as db:
        number = the_dataset(ledger, dataset)
        view = one_dataset(db, number)
        only = task_of(Definitions(db).graph(number), task)
        spans = job_spans(job, view.jobs)
    files: Iterator[OutputView] = chain.from_iterable(verification.kept_files(ledger, number, *span, only) for span in spans)
    if not job:
        files = chain(files, verification.final_files(ledger, number, only))
    done = verification.verify(files, progress())
    with ledger.read() as db:
        others = [one for span in spans for one in chaining.changed(db, number, *span)]
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    name = shlex.quote(view.name)
    if as_json:
        output.print_json({
            "dataset": view.name, "ok": done.ok, "bytes": done.bytes, "wrong": [{"file": one, "why": why} for one, why in done.wrong],
            "absent": done.absent, "sources": others,
        })  # fmt: skip
    else:
        for one, why in done.wrong[:SHOWN]:
            say(f"{paint('wrong', 'red')}  {clean(one.path or one.name)}: {why}")
        if len(done.wrong) > SHOWN:
            say(f"... and {len(done.wrong) - SHOWN} more (--json lists them all)")
        for other in done.absent[:SHOWN]:
            say(f"{paint(other.state, 'yellow')}  {clean(other.name)} of job {job_text(other.job, other.group)}, at site {clean(other.site)}")
        for source in others[:SHOWN]:
            say(f"{paint('source', 'yellow')}  {clean(changed_sentence(source))}")
        say(f"dataset {clean(view.name)}: {plural(done.ok, 'file')} ({output.plain_size(done.bytes)}) verified"
            + (f", {len(done.wrong)} wrong" if done.wrong else "") + (f", {len(done.absent)} not home" if done.absent else ""))  # fmt: skip
    if done.wrong:
        first = done.wrong[0][0]
        where = f"--task {shlex.quote(first.task)}" if first.job is None else f"--job {first.job} --task {shlex.quote(first.task)}"
        raise Failed(f"{plural(len(done.wrong), 'file')} of dataset {view.name} {'is' if len(done.wrong) == 1 else 'are'} not what was recorded",
                     f"put back what a backup has, or make it anew: `icp reset {name} {where}`")  # fmt: skip
    if done.absent:
        raise Unreachable(f"{plural(len(done.absent), 'file')} of dataset {view.name} {'is' if len(done.absent) == 1 else 'are'} not home",
                          f"`icp run`, then again; `icp outputs {name} --missing`")  # fmt: skip


def progress() -> Callable[[OutputView, int], None]:
    """A line on a terminal's standard error that says how far it is; nothing where nobody looks."""
    if not sys.stderr.isatty():
        return lambda file, n: None
    begun = last = time.monotonic()
    done = 0

    def told(file: OutputView, n: int) -> None:
        nonlocal last, done
        done += n
        now = time.monotonic()
        if now - last > 0.2:
            last = now
            rate = done / max(now - begun, 0.001)
            text = f"job {job_text(file.job, file.group)}: {output.plain_size(done)} read, {output.plain_size(rate)}/s"
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    return told

"""`icp export`: a dataset as an RO-Crate (hides only the printing)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, DatasetName, open_here, plural, the_dataset
from icp.output import clean

__all__ = ["export"]


def export(
    dataset: DatasetName,
    to: Annotated[Path, typer.Option("--output", "-o", metavar="DIR|FILE.zip", help="What is written: a new folder, or a ZIP.", show_default=False)],
    with_files: Annotated[bool, typer.Option("--with-files", help="Put the outputs that are home into it; without, they are named by their sha256.")] = False,
    licence: Annotated[str, typer.Option("--license", metavar="URL|TEXT", help="What others may do with it.")] = "no license is stated",
    as_json: AsJson = False,
) -> None:
    """Write a dataset down as an RO-Crate 1.1: steering file and what it shipped, seeds, every attempt that counts, files by sha256, statistics.

    With it others can see what was done, and do a job again: `icp rerun EXPORT --job N --local`, on any machine and without this ledger.

    Examples:

      icp export muons -o muons.zip

      icp export muons -o muons-crate --with-files --license https://creativecommons.org/licenses/by/4.0/
    """
    from icp import config
    from icp.engine import export as writing

    ledger = open_here()
    number = the_dataset(ledger, dataset)
    done = writing.export(
        ledger, number, to.expanduser().absolute(), config.load().sites, time.time(), with_files=with_files, licence=licence, progress=_progress()
    )
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if as_json:
        output.print_json(done)
        return
    output.say(f"{clean(done.target)}: {plural(done.attempts, 'attempt')}, {plural(done.files, 'file')} by sha256"
               + (f", {done.copied} of them inside ({output.plain_size(done.bytes)})" if with_files else ""))  # fmt: skip
    if done.absent:
        output.say(f"{plural(done.absent, 'file')} not home yet: there by their sha256 only")
    output.say(f"one job again, anywhere: icp rerun {clean(to)} --job 0 --local")


def _progress() -> Callable[[int], object]:
    if not sys.stderr.isatty():
        return lambda job: None

    def told(job: int) -> object:
        sys.stderr.write(f"\r\x1b[Kjob {job:,}" if job >= 0 else "\r\x1b[Kfinal tasks")
        return sys.stderr.flush()

    return told

"""`icp local`: one job in the foreground, to find out why it fails (hides only the printing)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from icp.commands.arguments import fetching

__all__ = ["local"]


def local(
    steering: Annotated[Path, typer.Argument(help="The steering file, or a submit file or batch script.")],
    job: Annotated[int, typer.Option("--job", "-j", help="Which job.")] = 0,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only this task, and those of its parents that are not home.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the dataset (default: of the recorded one of this name, or the file's).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print how each task ended as JSON, at the end.")] = False,
) -> None:
    """Run one job here and now, exactly as an agent would, and keep its directories.

    Everything stays in icp-local/NAME/JOB/TASK below the current directory; nothing is recorded in the ledger, and no output goes to a URL.

    Examples:

      icp local steering.toml --job 17

      icp local steering.toml --job 17 --task propagate
    """
    from icp import config as configuration
    from icp.engine.foreground import Foreground
    from icp.engine.shipments import stock
    from icp.errors import Failed, NotFound
    from icp.ledger.db import open_ledger

    config = configuration.load()
    try:
        ledger = open_ledger(config.ledger)
    except NotFound:
        ledger = None
    site = next(iter(config.sites.values()))
    with fetching():
        here = Foreground(steering, job, site, ledger, Path("icp-local").absolute(), seed, stock(config.places))
        tasks = here.wanted(task)
        here.provide()
    ran = here.run(tasks, lambda one: typer.secho(f"--- {one.name} ---", bold=True, err=True))
    for one in ran:
        word = "ok" if one.ok else f"failed (exit {one.exit}): {one.why.strip().splitlines()[-1] if one.why.strip() else ''}"
        typer.secho(f"{one.task}: {word}; {one.directory}", fg="green" if one.ok else "red", err=True)
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {"task": one.task, "ok": one.ok, "exit": one.exit, "directory": str(one.directory), "stats": one.stats,
                     "outputs": [{"name": name, "path": str(path), "sha256": digest} for name, path, digest in one.outputs]}
                    for one in ran
                ]
            )
        )  # fmt: skip
    if not all(one.ok for one in ran):
        raise Failed(f"task {ran[-1].task} of job {job} failed here too", f"look into {ran[-1].directory}")

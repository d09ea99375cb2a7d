"""`icp demo`: a whole dataset on this machine in a home of its own (hides where the example lies)."""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo", "example"]


def demo(
    jobs: Annotated[int, typer.Option(help="Jobs of the dataset.")] = 12,
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to put everything (default: a new directory below the temporary one).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the dataset.")] = 2026,
) -> None:
    """Run cosmic-ray muons through the antarctic ice, from a steering file to a verified result.

    Real pilots on this machine, a ledger and a spool of their own; nothing of yours is touched.

    Examples:

      icp demo

      icp demo --jobs 50 --dir ~/icp-demo
    """
    from icp import config as configuration
    from icp.engine import submission
    from icp.engine.loop import engine_lock
    from icp.errors import BadInput, Failed
    from icp.ledger.check import check
    from icp.ledger.datasets import read_dataset
    from icp.ledger.db import open_ledger
    from icp.states import Dataset

    source = example("muons")
    place = directory.expanduser().absolute() if directory is not None else Path(tempfile.mkdtemp(prefix="icp-demo-"))
    if place.exists() and any(place.iterdir()):
        raise BadInput(f"{place} is not empty", "name a directory that does not exist yet")
    shutil.copytree(source, place / "muons", ignore=shutil.ignore_patterns("__pycache__", "outputs", "icp-local"))
    os.environ["ICP_HOME"] = str(place / "home")
    where = configuration.places()
    configuration.set_value(where, "site.local.attributes.GPU", "true")
    configuration.set_value(where, "site.local.pilot.idle", "2")
    config = configuration.load()
    ledger = open_ledger(config.ledger, create=True)
    prepared = submission.prepare(place / "muons" / "steering.toml", jobs=jobs, seed=seed)
    number = submission.submit(ledger, prepared, time.time())
    tasks = ", ".join(task.name for task in prepared.steering.all_tasks)
    typer.echo(f"{jobs} jobs of the dataset muons, each a DAG, and a final task over all of them: {tasks}")
    typer.echo("one task wants a GPU: this site was told `GPU = true`, and pretends")
    typer.echo(f"everything is in {place}")
    from icp.commands.run import run_until_done

    with engine_lock(config):
        run_until_done(ledger, config, number)
        state = read_dataset(ledger.db, number).state
        violations = check(ledger)
        _leave(ledger, config)
    if state != Dataset.COMPLETE:
        raise Failed("the dataset did not complete", f"ICP_HOME={config.places.data} icp why muons")
    typer.echo("ledger check: " + ("clean" if not violations else "; ".join(violations)))
    _show(prepared.outputs)
    typer.secho("\nnow yours:", bold=True)
    typer.echo("  icp new > steering.toml\n  icp submit steering.toml --watch\n  icp status")
    typer.echo(f"look around in the demo's ledger: ICP_HOME={config.places.data} icp show muons")


def _leave(ledger: object, config: object) -> None:
    """Tick on until the pilot, which has nothing to do, has left."""
    from icp.config import Config
    from icp.engine.tick import Engine
    from icp.ledger.db import Ledger

    assert isinstance(ledger, Ledger) and isinstance(config, Config)
    ledger.take_lease(time.time())
    engine = Engine(ledger, config)
    deadline = time.monotonic() + 15
    while engine.tick().working and time.monotonic() < deadline:
        time.sleep(0.3)


def _show(outputs: Path) -> None:
    found = sorted(outputs.glob("final/*/depth_intensity.csv"))
    if not found:
        return
    with found[0].open() as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = list(csv.reader(lines))
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    typer.echo("")
    for row in rows:
        typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)))
    typer.echo(f"\nplot: {found[0].with_suffix('.svg')}")


def example(name: str) -> Path:
    """The folder of an example, in a checkout or as installed."""
    import icp
    from icp.errors import NotFound

    package = Path(icp.__file__).resolve().parent.parent
    for base in (package, package / "share" / "icp", Path(sys.prefix) / "share" / "icp"):
        if (base / "examples" / name / "steering.toml").is_file():
            return base / "examples" / name
    raise NotFound(f"the example {name} is not installed with this icp", "take it from the source distribution")

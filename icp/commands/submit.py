"""`icp submit`: a steering file becomes a dataset, or jobs that nobody looks after (hides only the printing)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icp.commands.arguments import Yes, fetching
from icp.commands.complete import dataset_names, site_names
from icp.output import clean

if TYPE_CHECKING:
    from icp.config import Config, Site
    from icp.ledger.db import Ledger

__all__ = ["submit"]

PLANNED = 5


def submit(
    steering: Annotated[
        Path | None, typer.Argument(help="The steering file; also a submit file of HTCondor or a batch script (docs/foreign.md).", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Name of the dataset, instead of the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the dataset, from which every task's seed follows.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Number of jobs, instead of the file's.")] = None,
    outputs: Annotated[Path | None, typer.Option("--outputs", "-o", help="Where outputs will be (default: outputs/NAME beside the file).")] = None,
    plan: Annotated[bool, typer.Option("--plan", "--dry-run", help="Say what would be recorded, and change nothing.")] = False,
    replace: Annotated[
        str | None,
        typer.Option("--replace", metavar="NAME", help="Describe this dataset anew: what is ok and described as before stays.", autocompletion=dataset_names),
    ] = None,
    ignore_files: Annotated[bool, typer.Option("--ignore-files", help="With --replace: files that changed alone do nothing again.")] = False,
    yes: Yes = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Run until the dataset is done, with the dashboard.")] = False,
    unmonitored: Annotated[
        bool, typer.Option("--unmonitored", help="Submit each job straight to a site's batch system; nothing is recorded, and nothing comes home.")
    ] = False,
    site: Annotated[str | None, typer.Option("--site", metavar="SITE", help="With --unmonitored: where.", autocompletion=site_names)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Record a dataset and give its first jobs to the sites.

    The file is checked whole before anything is written. Ten million jobs are recorded as fast as ten.

    Examples:

      icp submit steering.toml

      icp submit steering.toml --name muons-2 --seed 17 --watch

      icp submit steering.toml --plan

      icp submit job.sub

      icp submit steering.toml --replace muons --dry-run

      icp submit --unmonitored --site nsa steering.toml
    """
    from icp import config as configuration
    from icp.engine import shipments, submission
    from icp.errors import BadInput, NotFound, Refused
    from icp.ledger.db import is_network, open_ledger
    from icp.ledger.submit import check_name
    from icp.places import note_host

    if steering is None:
        raise BadInput("which steering file?", "`icp new > steering.toml` writes one to begin with, then `icp submit steering.toml`")
    config = configuration.load()
    if site is not None and not unmonitored:
        raise BadInput("--site is for --unmonitored", "`requirements` in the file say where a task may run")
    if replace is not None:
        if unmonitored or name is not None or seed is not None or outputs is not None or watch:
            raise BadInput("--replace: name, seed and outputs stay what they are", "leave --name, --seed, --outputs, --watch and --unmonitored out")
        from icp.commands.replace import replace_dataset

        replace_dataset(config, steering, replace, jobs, plan=plan, ignore_files=ignore_files, yes=yes, as_json=as_json)
        return
    if unmonitored:
        if watch or outputs is not None:
            raise BadInput("--unmonitored: nothing is watched, and nothing comes home", "leave --watch and --outputs out")
        _unmonitored(config, _site(config, site), steering, name, seed, jobs, plan, as_json)
        return
    with fetching():
        prepared = submission.prepare(steering, name=name, seed=seed, outputs=outputs, jobs=jobs, sites=config.sites.values(), ledger=_there(config))
    try:
        ledger = open_ledger(config.ledger, create=not plan)
        check_name(ledger.db, prepared.steering.name)
    except NotFound:
        ledger = None
    submission.check_outputs(prepared.outputs)
    for warning in prepared.steering.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    if plan or ledger is None:
        _plan(prepared, as_json)
        return
    if config.ledger != config.places.ledger and not is_network(config.ledger):
        note_host(config.places, config.ledger)
    with fetching():
        shipments.provide_software(config.places, prepared.steering, prepared.directory)
    number = submission.submit(ledger, prepared, time.time())
    sites = ", ".join(config.sites)
    if as_json:
        said = {"dataset": number, "name": prepared.steering.name, "uuid": prepared.uuid, "jobs": prepared.steering.jobs.count,
                "seed": prepared.seed, "outputs": str(prepared.outputs)}  # fmt: skip
        typer.echo(json.dumps(said))
    else:
        typer.echo(f"dataset {number} {prepared.steering.name}: {_width(prepared)}, seed {prepared.seed}")
        typer.echo(f"outputs will be in {prepared.outputs}")
        if list(config.sites) == ["local"]:
            typer.echo("no other site is configured: it runs on this machine")
    from icp.engine.loop import engine_lock, run_once

    try:
        with engine_lock(config):
            if watch:
                from icp.commands.run import run_until_done

                run_until_done(ledger, config, number, quiet=as_json)
                return
            ticked = run_once(ledger, config)
            for at, why in {} if as_json else ticked.troubles.items():
                typer.secho(f"site {at} {clean(why)}", fg="yellow", err=True)
            if not as_json:
                typer.echo(f"the first tick is done (site {sites}); keep it going: `icp run`, or `icp run --once` from cron; look: `icp status --watch`")
    except Refused as refused:
        if not as_json:
            typer.echo(f"{refused.message}; it will take the dataset up")


def _there(config: Config) -> Ledger | None:
    from icp.errors import NotFound
    from icp.ledger.db import open_ledger

    try:
        return open_ledger(config.ledger)
    except NotFound:
        return None


def _site(config: Config, name: str | None) -> Site:
    from icp.errors import BadInput, NotFound

    if name is None and len(config.sites) > 1:
        raise BadInput("--unmonitored: which site?", f"--site with one of {', '.join(config.sites)}")
    if name is not None and name not in config.sites:
        raise NotFound(f"there is no site {name}", f"known are {', '.join(config.sites)}")
    return config.sites[name] if name is not None else next(iter(config.sites.values()))


def _unmonitored(
    config: Config, site: Site, steering: Path, name: str | None, seed: int | None, jobs: int | None, plan: bool, as_json: bool
) -> None:
    from icp.engine import submission
    from icp.engine.unmonitored import Unmonitored
    from icp.errors import Failed

    prepared = submission.prepare(steering, name=name, seed=seed, jobs=jobs, sites=[site])
    warnings = list(prepared.steering.warnings)
    if prepared.steering.finals:
        warnings.append("final tasks do not run: nobody sees when the jobs have ended")
    for warning in warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    alone = Unmonitored(config, site, prepared)
    if plan:
        _plan(prepared, as_json)
        return
    sent = alone.send()
    count = prepared.steering.jobs.count
    if as_json:
        said = {"site": site.name, "name": prepared.steering.name, "seed": prepared.seed, "folder": sent.folder,
                "jobs": [{"job": job, "batch": batch} for job, batch in sent.jobs.items()],
                "failed": [{"job": job, "why": why} for job, why in sent.failed.items()]}  # fmt: skip
        typer.echo(json.dumps(said))
    else:
        typer.echo(f"{len(sent.jobs)} of {count} job{'s' * (count != 1)} of {prepared.steering.name} submitted at site {site.name}, seed {prepared.seed}")
        for job, batch in list(sent.jobs.items())[:10]:
            typer.echo(f"  job {job}: {batch}")
        if len(sent.jobs) > 10:
            typer.echo("  ... (--json lists them all)")
        typer.echo(f"each runs in {sent.folder}/JOB: outputs in JOB/TASK/, what tasks print in JOB/job.out and JOB/job.err, the end in JOB/result.json")
        typer.echo("nobody looks after them: nothing is retried, nothing comes home, nothing is recorded here")
    if sent.failed:
        job, why = next(iter(sent.failed.items()))
        raise Failed(f"job {job} and those after it were not submitted, or nobody can tell: {why}", "`--json` lists which")


def _width(prepared: object) -> str:
    from icp.engine.submission import Submission

    assert isinstance(prepared, Submission)
    steering = prepared.steering
    jobs, tasks, finals = steering.jobs.count, len(steering.tasks), len(steering.finals)
    follows = f" so far, more as outputs of {steering.jobs.source.removeprefix('dataset:').partition('/')[0]} come," if steering.jobs.follow else ""
    text = f"{jobs} job{'s' * (jobs != 1)}{follows} of {tasks} task{'s' * (tasks != 1)}"
    return text + (f" and {finals} final task{'s' * (finals != 1)}" if finals else "")


def _plan(prepared: object, as_json: bool) -> None:
    from icp.engine.submission import Submission

    assert isinstance(prepared, Submission)
    needs = [
        {"task": task.name, "cpus": need.cpus, "memory": need.memory, "disk": need.disk, "gpus": need.gpus, "time": need.time,
         "requirements": need.any}
        for task, need in prepared.needs
    ]  # fmt: skip
    if as_json:
        typer.echo(
            json.dumps({"name": prepared.steering.name, "jobs": prepared.steering.jobs.count, "seed": prepared.seed,
                        "outputs": str(prepared.outputs), "pack": len(prepared.pack[1]) if prepared.pack else 0, "tasks": needs})
        )  # fmt: skip
        return
    typer.echo(f"dataset {prepared.steering.name}: {_width(prepared)}; nothing is recorded")
    typer.echo(f"outputs would be in {prepared.outputs}")
    if prepared.pack:
        typer.echo(f"{len(prepared.pack[1]) // 1000} kB of files are shipped with it")
    for (task, need), _ in zip(prepared.needs, needs, strict=True):
        hours = need.time / 3600 * need.cpus * prepared.steering.jobs.count
        said = " or ".join(" and ".join(f"{a} {op} {value}" for a, op, value in clause) for clause in need.any)
        typer.echo(
            f"  {task.name}: {need.cpus} cpus, {need.memory / 1e9:g} GB of memory, {need.disk / 1e9:g} GB of disk, {need.gpus} gpus, "
            f"{need.time / 3600:g} h at the most ({hours:,.0f} core-hours for all jobs at the most); needs {said or 'nothing'}"
        )

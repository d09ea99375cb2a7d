"""One job in the foreground, as an agent would run it and without a ledger row (hides where its inputs come from)."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icp.config import Site
from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.steering import load
from icp.engine.chaining import outputs_of
from icp.engine.modules import Fetcher
from icp.engine.shipments import provide, used
from icp.engine.submission import pack_files
from icp.errors import BadInput, NotFound
from icp.ledger import datasets
from icp.ledger.db import Ledger
from icp.ledger.files import home_path, job_folder
from icp.model.definition import Steering, TaskDef
from icp.pilot.here import run_card_here

__all__ = ["Foreground", "Ran", "Recorded"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A dataset as it was recorded, to be run again. ``pack``: the bytes of its shipped files; ``dataset``: whose outputs are lent."""

    steering: Steering
    directory: Path
    seed: int
    pack: bytes | None
    jobs: int
    dataset: int | None = None
    outputs: str = ""


@dataclass(slots=True)
class Ran:
    """How one task of the job ended here."""

    task: str
    ok: bool
    directory: Path
    exit: int | None
    why: str
    outputs: list[tuple[str, Path, str]] = field(default_factory=list)
    """(name, path, sha256)"""
    stats: dict[str, float] = field(default_factory=dict)


class Foreground:
    """Runs tasks of one job below ``where``/NAME/JOB/TASK; what it makes stays there.

    A dataset of the same name in the ledger lends its seed and the outputs that are home already; a recorded one brings them itself.
    """

    def __init__(
        self, steering_file: Path | Recorded, job: int, site: Site, ledger: Ledger | None, where: Path, seed: int | None = None, stock: Path | None = None
    ) -> None:
        recorded = steering_file if isinstance(steering_file, Recorded) else None
        self.fetch = Fetcher()
        self.pack = None if recorded is None else recorded.pack
        self.steering: Steering
        if isinstance(steering_file, Recorded):
            self.steering, self.directory = steering_file.steering, steering_file.directory
        else:
            self.steering, self.directory = load(steering_file, self.fetch, outputs_of(ledger)), steering_file.absolute().parent
        if not 0 <= job < self.steering.jobs.count:
            there = f"jobs 0 to {self.steering.jobs.count - 1}" if self.steering.jobs.count else "no job yet"
            raise BadInput(f"--job {job}: this dataset has {there}")
        self.job, self.site, self.ledger, self.stock = job, site, ledger, stock
        row = None
        if ledger is not None and recorded is None:
            row = datasets.named(ledger.db, self.steering.name)
        self.dataset = None if row is None else row.id
        self.outputs = "" if row is None else row.outputs
        self.jobs = self.steering.jobs.count if row is None else row.jobs
        known = None if row is None else row.seed
        self.seed = seed if seed is not None else known if known is not None else self.steering.seed
        if self.seed is None:
            self.seed = secrets.randbits(63)
        if seed is not None and seed != known:
            self.dataset = None  # outputs of another seed are other outputs
        if recorded is not None:
            self.dataset, self.outputs, self.jobs, self.seed = recorded.dataset, recorded.outputs, recorded.jobs, recorded.seed
        self.where = where / self.steering.name / job_folder(job, self.jobs)
        self.made: dict[tuple[str, str], list[tuple[str, Path, str]]] = {}
        """(task, declared output) -> (name, path, sha256)"""

    def wanted(self, task: str | None) -> list[TaskDef]:
        """The tasks to run, in order: the named one (or all), and those of its parents whose outputs are not home."""
        by_name = {one.name: one for one in self.steering.all_tasks}
        if task is not None and task not in by_name:
            raise NotFound(f"there is no task {task} in {self.steering.name}", f"it has {', '.join(by_name)}")
        todo = [one.name for one in self.steering.tasks] if task is None else [task]
        run: set[str] = set(todo)
        while todo:
            one = by_name[todo.pop()]
            for parent in one.after:
                if parent not in run and not one.final and not self._lend(by_name[parent]):
                    run.add(parent)
                    todo.append(parent)
        return [one for one in self.steering.all_tasks if one.name in run]

    def _lend(self, task: TaskDef) -> bool:
        """Whether all outputs of a task of this job are home; then they are used."""
        if self.ledger is None or self.dataset is None:
            return False
        files = datasets.home_outputs(self.ledger.db, self.dataset, self.job, task.name)
        if files is None:
            return False
        found = [(index, name, home_path(self.outputs, self.jobs, self.job, name), digest) for index, name, digest in files]
        if not all(path.exists() for _, _, path, _ in found):
            return False
        for index, name, path, digest in found:
            self.made.setdefault((task.name, task.outputs[index].name), []).append((name, path, digest))
        return True

    def provide(self) -> None:
        """Fetch the tarballs that are not here yet. BadInput, Unreachable."""
        for name, one in used(self.steering).items():
            for tarball in one.tarballs:
                provide(self._shelf, tarball.url, tarball.sha256, f"software.{name}, the tarball for {tarball.platform}", self.directory)

    def run(self, tasks: list[TaskDef], begin: Callable[[TaskDef], None]) -> list[Ran]:
        """Run them in order, each as a card of its own; ends at the first that fails."""
        ran: list[Ran] = []
        with tempfile.TemporaryDirectory(prefix="icp-local-") as scratch:
            pack = None
            if self.pack is not None or self.steering.files or self.fetch.shipped:
                data = self.pack if self.pack is not None else pack_files(self.directory, self.steering.files, self.fetch.shipped)
                pack = Path(scratch) / "pack.tar"
                pack.write_bytes(data)
            self.provide()
            for task in tasks:
                begin(task)
                ran.append(self._one(task, pack))
                if not ran[-1].ok:
                    break
        return ran

    def _one(self, task: TaskDef, pack: Path | None) -> Ran:
        renderer = Renderer(self.steering, task)
        job = -1 if task.final else self.job
        assert self.seed is not None
        context = JobContext(
            self.steering.name, self.seed, job, self.jobs, {} if task.final else self.steering.jobs.row(self.job), "" if task.final else None
        )
        need = renderer.need(context)
        rendered = renderer.render(context, SiteContext(self.site.name, {"CPU": True, **self.site.attributes}, self.site.system))
        inputs, paths = self._inputs(task)
        attempt: dict[str, Any] = {
            "a": os.urandom(8).hex(), "k": os.urandom(8).hex(), "dataset": "local", "job": job, "task": task.name, "try": 1, "after": [],
            "cpus": need.cpus, "memory": need.memory, "disk": need.disk, "gpus": need.gpus, "time": need.time,
            "files": [] if pack is None else [hashlib.sha256(pack.read_bytes()).hexdigest()], "in": inputs + rendered.fetch,
            "list": task.final or (self.steering.jobs.grouped and not task.after),
            "steps": rendered.steps,
            # A try stores nothing where the dataset does.
            "out": [{key: value for key, value in one.items() if key not in ("url", "away")} for one in rendered.out],
            **rendered.environments,
        }  # fmt: skip
        card = {"card": os.urandom(8).hex(), "format": 1, "need": need.id, "attempts": [attempt]}
        folder = self.where.parent / "final" if task.final else self.where
        env = dict(self.site.env)
        before = {name: os.environ.get(name) for name in env}
        os.environ.update(env)
        shipped = attempt["files"]

        def bytes_of(digest: str) -> str:
            return str(pack if digest in shipped else self._shelf / digest)

        try:
            fact = run_card_here(
                card, str(folder), lambda origin, name: paths[name], bytes_of, sys.stdout.buffer, sys.stderr.buffer, dict(self.site.transfer),
                dict(self.site.software),
            )[0]
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        done = Ran(task.name, fact["r"] == "ok", folder / task.name, fact.get("exit"), str(fact.get("err") or fact["r"]), stats=fact.get("stats") or {})
        for index, name, _, digest in fact.get("out") or []:
            entry = (name, folder / task.name / name, digest)
            done.outputs.append(entry)
            self.made.setdefault((task.name, task.outputs[index].name), []).append(entry)
        return done

    @property
    def _shelf(self) -> Path:
        """Where tarballs of software lie here."""
        return self.stock if self.stock is not None else self.where / ".software"

    def _inputs(self, task: TaskDef) -> tuple[list[dict[str, Any]], dict[str, str]]:
        found: list[dict[str, Any]] = []
        paths: dict[str, str] = {}
        for one in task.inputs:
            entries = self._members(one.task, one.output) if task.final else self.made.get((one.task, one.output), [])
            for name, path, digest in entries:
                found.append({"name": name, "from": ["store", "0" * 16], "sha256": digest})
                paths[name] = str(path)
        if self.steering.jobs.source and not task.final and not task.after:
            row = self.steering.jobs.row(self.job)
            columns = [value if isinstance(value, list) else [value] for value in (row[key] for key in ("files", "source_path", "source_sha256", "source_job"))]
            for name, path, digest, of in zip(*columns, strict=True):
                if not Path(str(path)).is_file():
                    said = f"it was made by job {of} of dataset {row['source_dataset']}"
                    raise NotFound(f"{path}, from which job {self.job} is made, is not here", said)
                found.append({"name": str(name), "from": ["store", "0" * 16], "sha256": digest})
                paths[str(name)] = str(path)
        return found, paths

    def _members(self, parent: str, output: str) -> list[tuple[str, Path, str]]:
        """A final task runs over what is home of the recorded dataset."""
        if self.ledger is None or self.dataset is None:
            raise NotFound(f"no dataset {self.steering.name} is recorded whose outputs a final task could run over", "submit it, or name a task of a job")
        return [
            (f"inputs/{parent}/{job_folder(job, self.jobs)}/{name}", home_path(self.outputs, self.jobs, job, name), digest)
            for job, name, digest in datasets.home_members(self.ledger.db, self.dataset, parent, output)
        ]

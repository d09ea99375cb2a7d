"""A dataset written down to be kept or given away: a folder or a ZIP with all that is needed to make it again (hides its layout)."""

from __future__ import annotations

import contextlib
import csv
import getpass
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from icp.config import Site
from icp.engine.crate import METADATA, Crate
from icp.engine.foreground import Recorded
from icp.engine.provenance import Story, StoryTeller, recorded_steering
from icp.engine.verification import what_is_wrong
from icp.errors import BadInput, Failed
from icp.ledger import cards, provenance
from icp.ledger.datasets import job_rows, read_dataset
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.files import final_folder, job_folder
from icp.ledger.views import DatasetView, one_dataset
from icp.ledger.views_stats import stats
from icp.model.definition import steering_from_json
from icp.states import File

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Exported", "export", "read_export"]

FORMAT = 1
LISTED = 5000
"""Attempts that are entities of the crate; tables have all of them."""
JOBS = 500
"""Jobs whose attempts are told in one view of the ledger."""
FILES = ("job", "group", "task", "attempt", "name", "bytes", "sha256", "state", "kept", "in_crate")
ATTEMPTS = ("job", "group", "task", "attempt", "try", "site", "host", "begun", "wall", "cpu", "memory", "exit", "seed", "revision", "software")
INPUTS = ("attempt", "name", "sha256", "made_by")
STATISTICS = ("task", "name", "n", "sum", "mean", "deviation", "min", "max")


@dataclass(slots=True)
class Exported:
    """What was written; ``absent``: kept files that are not home, and so are there by their hash only."""

    target: Path
    attempts: int = 0
    files: int = 0
    copied: int = 0
    bytes: int = 0
    absent: int = 0
    listed: bool = True
    """Whether every attempt is an entity of the crate."""


class _Target:
    """A folder or a ZIP that appears whole."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.part = target.with_name(f".{target.name}.{os.getpid()}.part")
        self.zip: zipfile.ZipFile | None = None
        self.written: dict[str, tuple[int, str]] = {}
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise BadInput(f"{target} exists already", "name a folder or a .zip that does not")
        if not target.parent.is_dir():
            raise BadInput(f"{target.parent} is not a directory", "make it first")
        if target.suffix == ".zip":
            self.zip = zipfile.ZipFile(self.part, "w", zipfile.ZIP_DEFLATED)
        else:
            self.part.mkdir()

    def add(self, path: str, source: bytes | Path) -> tuple[int, str]:
        """Write one file: its size and its sha256."""
        digest, size = hashlib.sha256(), 0
        with contextlib.ExitStack() as stack:
            out: Any
            if self.zip is not None:
                out = stack.enter_context(self.zip.open(path, "w", force_zip64=True))
            else:
                place = self.part / path
                place.parent.mkdir(parents=True, exist_ok=True)
                out = stack.enter_context(place.open("xb"))
            stream = stack.enter_context(io.BytesIO(source) if isinstance(source, bytes) else source.open("rb"))
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
                out.write(block)
        self.written[path] = (size, digest.hexdigest())
        return self.written[path]

    def finish(self) -> None:
        if self.zip is not None:
            self.zip.close()
        elif self.target.exists():
            self.target.rmdir()
        self.part.replace(self.target)

    def give_up(self) -> None:
        if self.zip is not None:
            self.zip.close()
            self.part.unlink(missing_ok=True)
        else:
            shutil.rmtree(self.part, ignore_errors=True)


def export(
    ledger: Ledger, dataset: int, target: Path, sites: Mapping[str, Site], now: float, *,
    with_files: bool = False, licence: str = "no license is stated", progress: Callable[[int], Any] = lambda job: None,
) -> Exported:  # fmt: skip
    """Write the dataset down; the result appears whole or not at all. BadInput, Failed (a file at home is not what was recorded)."""
    out = _Target(target)
    try:
        with tempfile.TemporaryDirectory(prefix="icp-export-") as scratch:
            done = _Writing(ledger, dataset, out, sites, now, Path(scratch), with_files, licence).all(progress)
        out.finish()
    except BaseException:
        out.give_up()
        raise
    return done


class _Table:
    """A CSV on its way: it may become larger than memory."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path = path
        self.file = path.open("w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(columns)

    def row(self, *cells: Any) -> None:
        self.writer.writerow(["" if cell is None else cell for cell in cells])


class _Writing:
    def __init__(
        self, ledger: Ledger, dataset: int, out: _Target, sites: Mapping[str, Site], now: float, scratch: Path, with_files: bool, licence: str
    ) -> None:
        self.ledger, self.dataset, self.out, self.now, self.with_files = ledger, dataset, out, now, with_files
        self.row = read_dataset(ledger.db, dataset)
        self.view: DatasetView = one_dataset(ledger.db, dataset)
        self.teller = StoryTeller(ledger.db, sites)
        self.done = Exported(out.target)
        self.tables = {name: _Table(scratch / f"{name}.csv", columns)
                       for name, columns in (("attempts", ATTEMPTS), ("files", FILES), ("inputs", INPUTS))}  # fmt: skip
        revision = provenance.revision(ledger.db, dataset)
        self.steering = recorded_steering(revision)
        self.steering_name = PurePosixPath(self.steering.path or "steering.toml").name
        self.crate = Crate(
            self.row.uuid, self.view.name, self.row.seed, self.view.jobs, getpass.getuser(), now, licence, self.view.submitted,
            f"steering/{self.steering_name}", self.steering,
        )  # fmt: skip
        self.keys: dict[int, str] = {}
        self.names: dict[tuple[int, str], str] = {}
        """(attempt, sha256) -> the file as an entity, of those that are listed"""

    def all(self, progress: Callable[[int], Any]) -> Exported:
        self._definition()
        jobs = [(low, min(self.view.jobs - 1, low + JOBS - 1)) for low in range(0, self.view.jobs, JOBS)]
        for first, last in (*jobs, (-(10**12), -1)):
            progress(first)
            with self.ledger.read() as db:
                stories = [self.teller.story(one, render=False) for one in provenance.attempts(db, self.dataset, first, last)]
            for story in stories:
                self._story(story)
        self._statistics()
        for name, about in (("attempts", "every accepted attempt: where and when it ran, its seed, what it used"),
                            ("files", "every file that counts, by its sha256"), ("inputs", "which file was read by which attempt")):  # fmt: skip
            self.tables[name].file.close()
            self.crate.file(f"{name}.csv", about, "text/csv", *self.out.add(f"{name}.csv", self.tables[name].path))
        self.out.add(METADATA, self.crate.text(self._description()).encode())
        return self.done

    def _description(self) -> str:
        made = f"{self.done.attempts} accepted attempts at {self.view.jobs} jobs, {self.done.files} files"
        listed = "" if self.done.listed else f"; the first {LISTED} attempts are described here, all of them in attempts.csv, files.csv and inputs.csv"
        return f"Dataset {self.view.name} (seed {self.row.seed}), as icp recorded it: {made}{listed}. One job again: `icp rerun . --job N --local`."

    def _definition(self) -> None:
        """What it takes to make it again: the text, the definition as it was understood, what was shipped with it."""
        out, crate, row = self.out, self.crate, self.row
        text = f"steering/{self.steering_name}"
        crate.file(text, "the steering file", "application/toml", *out.add(text, row.steering.encode()), ("File", "SoftwareSourceCode"))
        for number, old in enumerate(provenance.earlier(self.ledger.db, self.dataset), 1):
            name = f"steering/revision-{number}/{self.steering_name}"
            crate.file(name, f"the steering file, revision {number}", "application/toml", *out.add(name, old.steering.encode()))
        rows = job_rows(self.ledger.db, self.dataset) if self.steering.jobs.kind == "rows" else []
        said = {
            "format": FORMAT, "uuid": row.uuid, "name": self.view.name, "seed": row.seed, "jobs": row.jobs, "exported": self.now,
            "pack": None if row.pack is None else row.pack.hex(), "definition": json.loads(row.definition), "rows": rows,
        }  # fmt: skip
        body = json.dumps(said, separators=(",", ":")).encode()
        crate.file("definition.json", "the dataset as it was understood, with the arguments of its jobs", "application/json", *out.add("definition.json", body))
        if row.pack is not None:
            pack = cards.blob(self.ledger.db, row.pack)
            crate.file("pack.tar", "the files that are shipped with the dataset, as tasks get them", "application/x-tar", *out.add("pack.tar", pack))
            with tarfile.open(fileobj=io.BytesIO(pack)) as tar:
                for member in tar.getmembers():
                    name = f"steering/{member.name}"
                    data = tar.extractfile(member)
                    if data is not None and name not in out.written and _plain(member.name):
                        crate.file(name, "shipped with the dataset", "application/octet-stream", *out.add(name, data.read()))
        listed = _listed(row.steering)
        if listed is not None and rows and f"steering/{listed}" not in out.written:
            sheet = io.StringIO()
            writer = csv.writer(sheet, lineterminator="\n")
            writer.writerow(self.steering.jobs.columns)
            writer.writerows(rows)
            crate.file(f"steering/{listed}", "the arguments of the jobs", "text/csv", *out.add(f"steering/{listed}", sheet.getvalue().encode()))

    def _story(self, story: Story) -> None:
        made = story.made
        job, group = (made.job, None) if made.job >= 0 else (None, -1 - made.job)
        self.done.attempts += 1
        listed = self.done.attempts <= LISTED
        self.done.listed &= listed
        self.keys[made.number] = made.attempt
        self.tables["attempts"].row(
            job, group, made.task, made.attempt, made.tries, made.site, made.host, made.begun, made.wall, made.cpu, made.memory, made.exit, story.seed,
            story.revision, made.software,
        )  # fmt: skip
        results = []
        for file in story.outputs:
            inside = self._copy(file, made.job)
            self.done.files += 1
            self.tables["files"].row(job, group, made.task, made.attempt, file.name, file.bytes, file.sha256, file.state, int(file.kept), inside)
            if listed:
                results.append(self.crate.output(made.attempt, file.name, file.bytes, file.sha256, inside))
                self.names[made.number, file.sha256] = results[-1]
        inputs = []
        for read in story.inputs:
            by = self.keys.get(read.attempt) or provenance.key_of(self.ledger.db, read.attempt)
            self.tables["inputs"].row(made.attempt, read.name, read.sha256, by)
            if listed and read.sha256 is not None:
                known = self.names.get((read.attempt, read.sha256))
                inputs.append(known or self.crate.output(by, read.name.rpartition("/")[2], read.bytes or 0, read.sha256, None))
        for moved in story.moved:
            if moved.how != "stored":
                self.tables["inputs"].row(made.attempt, moved.name, moved.sha256, moved.url)
                if listed:
                    inputs.append(self.crate.remote(moved.url, moved.name, moved.bytes, moved.sha256))
        if listed:
            self.crate.action(story, inputs, results)

    def _copy(self, file: provenance.FileRecord, job: int) -> str | None:
        """Where a kept file lies in the crate, if it does."""
        if not file.kept or file.path is None:
            return None
        if file.state != File.HOME.name.lower():
            self.done.absent += 1
            return None
        if not self.with_files:
            return None
        inside = f"outputs/{job_folder(job, self.view.jobs) if job >= 0 else final_folder(-1 - job)}/{file.name}"
        path = Path(file.path)
        try:
            size, digest = self.out.add(inside, path)
            wrong = "" if (size, digest) == (file.bytes, file.sha256) else "it changed since"
        except OSError:
            wrong = what_is_wrong(path, file.bytes, file.sha256) or "it cannot be read"
        if wrong:
            raise Failed(f"{path} is not what was recorded: {wrong}; nothing was exported", f"`icp verify {self.view.name}` looks at all of them")
        self.done.copied += 1
        self.done.bytes += file.bytes
        return inside

    def _statistics(self) -> None:
        graph = Definitions(self.ledger.db).graph(self.dataset)
        sheet = io.StringIO()
        writer = csv.writer(sheet, lineterminator="\n")
        writer.writerow(STATISTICS)
        with self.ledger.read() as db:
            for one in stats(db, graph):
                writer.writerow([getattr(one, name) for name in STATISTICS])
        self.crate.file("statistics.csv", "what tasks reported and used, summed up", "text/csv", *self.out.add("statistics.csv", sheet.getvalue().encode()))


def _plain(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def _listed(text: str) -> str | None:
    """The CSV file that a steering file takes its jobs from, if that is a plain path."""
    try:
        jobs = tomllib.loads(text).get("jobs")
    except tomllib.TOMLDecodeError:
        return None
    name = jobs.get("csv") if isinstance(jobs, dict) else None
    return name if isinstance(name, str) and _plain(name) else None


def read_export(path: Path) -> tuple[Recorded, Callable[[int], dict[tuple[str, str], str]]]:
    """What :func:`export` wrote, to be run again; and (task, name) -> sha256 of the files that a job (-1 - group: a final task) had made. BadInput."""
    try:
        said = json.loads(_member(path, "definition.json"))
        if said["format"] != FORMAT:
            raise BadInput(f"{path} is of format {said['format']}, and this icp knows {FORMAT}", "upgrade icp-pool")
        pack = None if said["pack"] is None else _member(path, "pack.tar")
        if pack is not None and hashlib.sha256(pack).hexdigest() != said["pack"]:
            raise BadInput(f"{path}: the sha256 of pack.tar is not the one that definition.json has", "take the export anew")
        steering = steering_from_json(said["definition"], rows=said["rows"])
        table = _member(path, "files.csv").decode()
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is no exported dataset: {error}", "`icp export DATASET -o DIR` makes one") from None

    def made(job: int) -> dict[tuple[str, str], str]:
        at = ("job", str(job)) if job >= 0 else ("group", str(-1 - job))
        return {(row["task"], row["name"]): row["sha256"] for row in csv.DictReader(io.StringIO(table)) if row[at[0]] == at[1]}

    directory = path / "steering" if path.is_dir() else path.parent
    return Recorded(steering, directory.absolute(), int(said["seed"]), pack, int(said["jobs"])), made


def _member(path: Path, name: str) -> bytes:
    if path.is_dir():
        return (path / name).read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)

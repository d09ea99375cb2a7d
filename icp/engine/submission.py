"""From a steering file to a recorded dataset (hides packing of files, seeds, and where outputs will be)."""

from __future__ import annotations

import hashlib
import io
import secrets
import tarfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from icp.config import NAME, Site
from icp.dsl.expand import JobContext, Rendered, Renderer, SiteContext
from icp.dsl.foreign.described import packed_as
from icp.dsl.steering import load
from icp.engine.chaining import Followers, outputs_of
from icp.engine.modules import Fetcher
from icp.engine.rendering import Rendering
from icp.errors import BadInput
from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions
from icp.ledger.submit import record
from icp.model.definition import Steering, TaskDef
from icp.model.need import Need
from icp.pilot.part import SCHEMES

__all__ = ["PACK_LIMIT", "Submission", "assemble", "check_outputs", "pack_files", "prepare", "submit"]

PACK_LIMIT = 200_000_000
"""Bytes of files that a dataset may ship; larger ones belong on a site's storage."""


EVERY = 1 << 62
"""Of what came before a dataset that follows another one was submitted."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated dataset that is not recorded yet."""

    steering: Steering
    directory: Path
    outputs: Path
    seed: int
    uuid: str
    pack: tuple[bytes, bytes] | None
    """(sha256, bytes) of the shipped files"""
    needs: tuple[tuple[TaskDef, Need], ...]
    """What each task of the first job asks for."""


def pack_files(directory: Path, names: tuple[str, ...], elsewhere: Mapping[str, Path] | None = None) -> bytes:
    """A tar of these files and folders, and of those ``elsewhere`` (name in the tar -> where): the same bytes for the
    same contents, sorted, no owners, no times.
    """
    members: dict[str, Path] = {}
    for name, path in [*((name, directory / name) for name in names), *(elsewhere or {}).items()]:
        found = [path] if not path.is_dir() else sorted(one for one in path.rglob("*") if not one.is_dir())
        if not path.exists():
            raise BadInput(f"{path} does not exist", "`files` names what is shipped with the dataset, relative to the steering file")
        for one in found:
            if "__pycache__" not in one.parts:
                members[packed_as(name + str(one)[len(str(path)) :])] = one
    size = sum(one.stat().st_size for one in members.values())
    if size > PACK_LIMIT:
        raise BadInput(
            f"`files` come to {size // 10**6} MB, more than the {PACK_LIMIT // 10**6} MB that are shipped with a dataset",
            "put large inputs where the site can read them",
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, path in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size = path.stat().st_size
            info.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as file:
                tar.addfile(info, file)
    return buffer.getvalue()


def prepare(
    steering_file: Path,
    *,
    name: str | None = None,
    seed: int | None = None,
    outputs: Path | None = None,
    jobs: int | None = None,
    sites: Iterable[Site] = (),
    ledger: Ledger | None = None,
) -> Submission:
    """Read and check everything that can be wrong before a line is written; the first job is rendered for each of ``sites``.

    ``ledger`` has the datasets whose outputs jobs may be made from.
    """
    fetch = Fetcher()
    steering = load(steering_file, fetch, outputs_of(ledger))
    if name is not None:
        if not NAME.match(name):
            raise BadInput(f"--name {name}: expected letters, digits, '.', '_' and '-'")
        steering = replace(steering, name=name)
    if jobs is not None:
        if steering.jobs.kind != "count" or jobs < 1:
            raise BadInput(f"--jobs {jobs}: expected a number of jobs for a steering file that says `jobs = NUMBER`")
        steering = replace(steering, jobs=replace(steering.jobs, count=jobs))
    return assemble(steering, steering_file.absolute().parent, seed=seed, outputs=outputs, sites=sites, fetched=fetch.shipped)


def assemble(
    steering: Steering,
    directory: Path,
    *,
    seed: int | None = None,
    outputs: Path | None = None,
    sites: Iterable[Site] = (),
    fetched: Mapping[str, Path] | None = None,
) -> Submission:
    """What is recorded of a definition whose files lie in ``directory``, and what was ``fetched`` elsewhere. BadInput."""
    home = (outputs.absolute() if outputs is not None else directory / "outputs" / steering.name)
    chosen = seed if seed is not None else steering.seed if steering.seed is not None else secrets.randbits(63)
    if not 0 <= chosen < 2**63:
        raise BadInput(f"seed {chosen}: expected a number from 0 to 2^63 - 1")
    pack = None
    if steering.files or fetched:
        data = pack_files(directory, steering.files, fetched)
        pack = (hashlib.sha256(data).digest(), data)
    first = JobContext(steering.name, chosen, 0, steering.jobs.count, steering.jobs.sample(0))
    renderers = [(task, Renderer(steering, task)) for task in steering.tasks]
    needs = tuple((task, renderer.need(first)) for task, renderer in renderers)
    for task, renderer in renderers:
        _renders_somewhere(renderer, task, first, list(sites))
    return Submission(steering, directory, home, chosen, str(uuid.uuid4()), pack, needs)


def _renders_somewhere(renderer: Renderer, task: TaskDef, job: JobContext, sites: list[Site]) -> None:
    """What only a site knows (``$system``, ``$attr``) must be known to one of them at the least."""
    failed: BadInput | None = None
    for site in sites:
        try:
            _can_transfer(renderer.render(job, SiteContext(site.name, {"CPU": True, **site.attributes}, site.system)), site)
            return
        except BadInput as error:
            failed = error
    if isinstance(failed, _NoTransfer):
        raise BadInput(f"task {task.name} can run at no site: {failed.message}", failed.hint)
    if failed is not None:
        raise BadInput(f"task {task.name} can be rendered for no site: {failed.message}", "`icp config set site.NAME.system.KEY VALUE` says what a site has")


class _NoTransfer(BadInput):
    """A site does not know what fetches or stores by a scheme."""


def _can_transfer(rendered: Rendered, site: Site) -> None:
    wanted = [("get", one["from"][1]) for one in rendered.fetch] + [("put", one["url"]) for one in rendered.out if "url" in one]
    for what, url in wanted:
        scheme = url.partition("://")[0].lower()
        if scheme not in SCHEMES and what not in site.transfer.get(scheme, {}):
            example = "gfal-copy -f {url} file://{file}" if what == "get" else "gfal-copy -f -p file://{file} {url}"
            raise _NoTransfer(
                f"{scheme}:// is not known there, and transfer.{scheme}.{what} is not configured",
                f"`icp config set transfer.{scheme}.{what} '{example}'`, or what else does it (docs/transfers.md)",
            )


def check_outputs(home: Path) -> None:
    """A dataset's outputs never mix with what is there already."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise BadInput(f"{home} holds something already", "move it away, or say `--outputs DIR` or `--name OTHER`")


def submit(ledger: Ledger, submission: Submission, now: float) -> int:
    """Record it; the number of the dataset."""
    with ledger.write():
        number = record(
            ledger,
            submission.steering,
            uuid=submission.uuid,
            seed=submission.seed,
            directory=str(submission.directory),
            outputs=str(submission.outputs),
            pack=submission.pack,
            now=now,
        )
        if submission.steering.jobs.follow:
            definitions = Definitions(ledger.db)
            Followers(ledger, definitions, Rendering(ledger.db, definitions)).take(number, now, EVERY)
        return number


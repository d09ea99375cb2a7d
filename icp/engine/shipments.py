"""Bytes that are fetched here once, and shipped to sites by sha256: tarballs of software, programs, Pythons (hides where they come from)."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from icp.dsl.environments import is_url
from icp.errors import BadInput, Unreachable
from icp.model.definition import Software, Steering
from icp.places import Places

__all__ = ["provide", "provide_software", "provided", "stock", "used"]

TIMEOUT = 60
"""Seconds without a byte after which an address is given up."""
_BLOCK = 1 << 20


def stock(where: Places) -> Path:
    """The folder in which they lie, each named by its sha256."""
    return where.state / "software"


def used(steering: Steering) -> Mapping[str, Software]:
    """The environments that some task runs in."""
    names = {tray.software or task.software for task in steering.all_tasks for tray in task.trays}
    return {name: one for name, one in steering.software.items() if name in names}


def provide_software(where: Places, steering: Steering, directory: Path) -> None:
    """Fetch the tarballs of a dataset that are not here yet. BadInput, Unreachable."""
    for name, one in used(steering).items():
        for tarball in one.tarballs:
            provide(stock(where), tarball.url, tarball.sha256, f"software.{name}, the tarball for {tarball.platform}", directory)


def provide(folder: Path, url: str, sha256: str, what: str, directory: Path | None = None) -> Path:
    """The path of these bytes, fetched and verified if they are not here; ``directory``: where a relative path begins."""
    target = folder / sha256
    if target.exists():
        return target
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder / f".{sha256}.{os.getpid()}"
    try:
        found = _fetch(url if is_url(url) else (Path(directory or ".") / url).absolute().as_uri(), part)
        if found != sha256:
            raise BadInput(f"{what}: {url} has sha256 {found}, expected {sha256}", "if the new bytes are right, put their sha256 there")
        part.chmod(0o600)
        part.replace(target)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        if isinstance(error, urllib.error.HTTPError):
            why = f"{error.code} {error.reason}"
        raise Unreachable(f"{what}: {url} cannot be fetched: {why}", "try again when it can be reached from here") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _fetch(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    # what its owner wrote into a steering file or the configuration, held against its sha256
    with urllib.request.urlopen(url, timeout=TIMEOUT) as source, target.open("wb") as out:  # noqa: S310
        for block in iter(lambda: source.read(_BLOCK), b""):
            digest.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def provided(folder: Path, wanted: Iterable[tuple[str, str]], what: str) -> tuple[tuple[bytes, Path], ...]:
    """(sha256, path) of all of these (URL, sha256)."""
    return tuple((bytes.fromhex(sha256), provide(folder, url, sha256, what)) for url, sha256 in wanted)

"""Bytes that are fetched here once, and shipped to sites by sha256: tarballs of software, programs, Pythons (hides where they come from)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from icp.dsl.environments import is_url
from icp.engine.downloads import NotFetched, download
from icp.errors import BadInput, Failed, IcpError, Unreachable
from icp.model.definition import Software, Steering
from icp.places import Places

__all__ = ["Provisions", "Shipped", "lacking", "provide", "provide_software", "stock", "used"]


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


def provide(
    folder: Path, url: str, sha256: str, what: str, directory: Path | None = None, given_up: Callable[[], bool] = lambda: False
) -> Path:
    """The path of these bytes, fetched and verified if they are not here; ``directory``: where a relative path begins."""
    target = folder / sha256
    if target.exists():
        return target
    part = folder / f".{sha256}.{os.urandom(4).hex()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        download(url if is_url(url) else (Path(directory or ".") / url).absolute().as_uri(), part, sha256, given_up=given_up)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except NotFetched as error:
        if error.wrong:
            raise BadInput(f"{what}: {url}: {error}", "if the new bytes are right, put their sha256 there") from None
        raise Unreachable(f"{what}: {url} cannot be fetched: {error}", "try again when it can be reached from here") from None
    except OSError as error:
        raise Failed(f"{what}: {url} cannot be kept in {folder}: {error.strerror or error}", "make room there, then the same again") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return target


def lacking(where: Places, wanted: Sequence[tuple[str, str]]) -> str | None:
    """The address of the first of these (URL, sha256) that is not here; None: all are."""
    return next((url for url, sha256 in wanted if not (stock(where) / sha256).exists()), None)


Shipped = tuple[tuple[bytes, Path], ...]
"""(sha256, path) of what is here."""


class Provisions:
    """What sites want shipped to their pilots, fetched beside the ticks where it is not here yet."""

    def __init__(self, where: Places) -> None:
        self._folder = stock(where)
        self._leaving = threading.Event()
        self._one = threading.Lock()
        self._flying: dict[str, Future[Shipped]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._flying)

    def landed(self) -> bool:
        """Whether some outcome waits to be taken."""
        return any(one.done() for one in self._flying.values())

    def begin(self, site: str, wanted: Sequence[tuple[str, str]]) -> Shipped | None:
        """All of these (URL, sha256) of a site, if they are here; None: they are being fetched."""
        here = tuple((bytes.fromhex(sha256), self._folder / sha256) for _, sha256 in wanted)
        if all(path.exists() for _, path in here):
            return here
        if site not in self._flying:
            self._flying[site] = Future()
            # whoever leaves does not wait for a server that says nothing
            threading.Thread(target=self._fetch, args=(site, wanted, self._flying[site]), name=f"provisions of {site}", daemon=True).start()
        return None

    def _fetch(self, site: str, wanted: Sequence[tuple[str, str]], outcome: Future[Shipped]) -> None:
        try:
            with self._one:  # what several sites want comes once
                paths = [provide(self._folder, url, sha256, f"site.{site}", given_up=self._leaving.is_set) for url, sha256 in wanted]
            outcome.set_result(tuple((bytes.fromhex(path.name), path) for path in paths))
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is taken
            outcome.set_exception(error)

    def outcomes(self) -> Iterator[tuple[str, Shipped | IcpError]]:
        """(site, what is here now, or why it is not) of those that are over."""
        for site, one in [(site, one) for site, one in self._flying.items() if one.done()]:
            del self._flying[site]
            error = one.exception()
            if error is not None and not isinstance(error, IcpError):
                raise error
            yield site, one.result() if error is None else error

    def wait(self) -> None:
        """Until all are over: what brings nothing is given up by itself."""
        wait(self._flying.values())

    def close(self) -> None:
        self._leaving.set()

"""Large files between home and sites, each in sessions of its own beside the ticks, resumed where they broke off (hides threads and partial files)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from icp.backends.base import Unknown
from icp.backends.spool_client import Missing, SpoolClient, SpoolPlace
from icp.config import Site
from icp.engine.home import finish_part, part_path
from icp.engine.lines import Lines
from icp.ledger.files import Coming
from icp.pilot import faults

__all__ = ["LARGE", "Fetched", "Put", "Transfers"]

LARGE = 8_000_000
"""Bytes beyond which a file travels by itself."""
CHUNK = 16_000_000
"""Bytes of one session: what arrived of one that broke off counts."""
AT_ONCE = 2
"""Files that travel at once between here and one host: the exchange, and people's commands, need sessions too."""
TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of an output on its way home: whole and in its place, not there (``missing`` says why), or neither: it broke off."""

    site: str
    file: Coming
    home: bool = False
    missing: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Put:
    """What became of bytes on their way into a site's cache; ``gone``: they are not at home any more."""

    site: str
    digest: bytes
    there: bool = False
    gone: bool = False
    failed: str = ""


class Transfers:
    """What is under way; ``begin`` is told again and again what is wanted, and what is under way goes on."""

    def __init__(self, lines: Lines, incoming: Path) -> None:
        self.lines, self.incoming = lines, incoming
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._flying: dict[Future[Fetched | Put], tuple[str, int | bytes]] = {}
        self._leaving = threading.Event()

    @property
    def busy(self) -> bool:
        return bool(self._flying)

    def landed(self) -> bool:
        """Whether some outcome waits to be taken."""
        return any(future.done() for future in self._flying)

    def knows(self, site: str, what: int | bytes) -> bool:
        """Whether this file (its id, or the sha256 of bytes on their way there) is under way."""
        return (site, what) in self._flying.values()

    def begin(self, site: Site, place: SpoolPlace, wanted: Sequence[Coming], puts: Sequence[tuple[bytes, int, Path | bytes]]) -> None:
        """Bring these files home, and these (sha256, bytes, path or content) there, in this order."""
        key = site.host or site.name
        if key not in self._pools:
            self._pools[key] = ThreadPoolExecutor(AT_ONCE)
        pool = self._pools[key]
        client = SpoolClient(self.lines.transport(site), site.env)
        for one in wanted:
            if not self.knows(site.name, one.file):
                self._flying[pool.submit(self._fetch, site, client, place, one)] = (site.name, one.file)
        for digest, size, source in puts:
            if not self.knows(site.name, digest):
                self._flying[pool.submit(self._put, site, client, place, digest, size, source)] = (site.name, digest)

    def outcomes(self) -> Iterator[Fetched | Put]:
        """Those that are there."""
        for future in [one for one in self._flying if one.done()]:
            del self._flying[future]
            if not future.cancelled():
                yield future.result()

    def wait(self, seconds: float) -> None:
        """Until one more outcome is there, or the time is up."""
        wait(self._flying, seconds, FIRST_COMPLETED)

    def leave(self) -> None:
        """Begin nothing more; to be followed by hanging up, and ``close``."""
        self._leaving.set()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Wait until all is written down."""
        self.leave()
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    def _fetch(self, site: Site, client: SpoolClient, place: SpoolPlace, one: Coming) -> Fetched:
        part = part_path(self.incoming, one.attempt, one.file)
        try:
            self.incoming.mkdir(parents=True, exist_ok=True)
            while not self._leaving.is_set():
                with part.open("ab") as file:
                    have = file.tell()
                    if have > one.size:
                        file.truncate(0)
                        continue
                    if have == one.size:
                        break
                    wanted = min(CHUNK, one.size - have)
                    data, end = client.fetch(place, one.attempt, one.name, have, wanted, TIMEOUT)
                    file.write(data[:wanted])
                faults.visit("engine.fetched")
                if isinstance(end, Missing):
                    return Fetched(site.name, one, missing=end.why)
                if isinstance(end, Unknown):
                    return Fetched(site.name, one, failed=end.why)
            else:
                return Fetched(site.name, one, failed="cut short here")
            wrong = finish_part(one, part)
            return Fetched(site.name, one, home=not wrong, missing=wrong)
        except OSError as error:
            return Fetched(site.name, one, failed=f"{error.filename or part}: {error.strerror}")

    def _put(self, site: Site, client: SpoolClient, place: SpoolPlace, digest: bytes, size: int, source: Path | bytes) -> Put:
        have, known = 0, False
        while not self._leaving.is_set():
            try:
                data = _read(source, have, CHUNK) if known else b""
            except OSError:
                return Put(site.name, digest, gone=True)
            if known and not data:
                return Put(site.name, digest, gone=True)  # shorter than it was
            said = client.put(place, digest.hex(), have, size, data, TIMEOUT)
            if isinstance(said, Unknown):
                return Put(site.name, digest, failed=said.why)
            if said[1]:
                return Put(site.name, digest, there=True)
            if known and said[0] < have + len(data):
                return Put(site.name, digest, failed="it arrived with another checksum" if said[0] == 0 else "it broke off")
            have, known = said[0], True
        return Put(site.name, digest, failed="cut short here")


def _read(source: Path | bytes, offset: int, length: int) -> bytes:
    if isinstance(source, bytes):
        return source[offset : offset + length]
    with source.open("rb") as file:
        file.seek(offset)
        return file.read(length)

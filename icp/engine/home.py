"""Outputs come home: pieces are put together, verified, made durable and given their names (hides partial files)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from icp.backends.spool_client import PIECE
from icp.ledger.files import Coming
from icp.model.exchange import Answer, Piece, Want
from icp.pilot import faults
from icp.pilot.digest import digest_of

__all__ = ["BUDGET", "Home", "finish_part", "part_path"]

BUDGET = 6_000_000
"""Bytes of outputs that are asked for in one exchange."""


def part_path(incoming: Path, attempt: str, file: int) -> Path:
    """Where an output lies while it comes home."""
    return incoming / f"{attempt}.{file}"


class Home:
    """What one exchange asked for of a site's outputs, and what came of it."""

    def __init__(self, wanted: Iterable[Coming], incoming: Path) -> None:
        self.incoming = incoming
        self.wanted: dict[tuple[str, int, str], Coming] = {}
        self.asked: list[Want] = []
        self.present: list[Coming] = []
        """What is home under its name already, verified: an engine died before it could note it, or the ledger was restored."""
        self.failed: list[tuple[Coming, str]] = []
        """(file, why) of those that the site has not, or not with these bytes."""
        room = BUDGET
        for one in wanted:
            if room <= 0:
                break
            if _is_home(one):
                self._part(one).unlink(missing_ok=True)
                self.present.append(one)
                continue
            have = self._have(one)
            length = min(PIECE, one.size - have, room)
            self.wanted[one.attempt, one.index, one.name] = one
            self.asked.append(Want(one.attempt, one.index, one.name, have, length))
            room -= length + 1000

    def _part(self, one: Coming) -> Path:
        return part_path(self.incoming, one.attempt, one.file)

    def _have(self, one: Coming) -> int:
        try:
            size = self._part(one).stat().st_size
        except OSError:
            return 0
        if size > one.size:
            self._part(one).unlink()
            return 0
        return size

    def take(self, answer: Answer) -> list[Coming]:
        """Write the pieces down; the files that are whole now, each verified, fsynced and renamed to its place."""
        arrived: list[Coming] = []
        for attempt, index, name, why in answer.missing:
            one = self.wanted.get((attempt, index, name))
            if one is not None:
                self.failed.append((one, why))
        folders: set[Path] = set()
        for piece in answer.pieces:
            one = self.wanted.get((piece.attempt, piece.index, piece.name))
            if one is not None and self._piece(one, piece, folders):
                arrived.append(one)
        for folder in folders:
            _sync_folder(folder)
        return arrived

    def _piece(self, one: Coming, piece: Piece, folders: set[Path]) -> bool:
        if piece.size != one.size:
            self.failed.append((one, f"it has {piece.size} bytes at the site, {one.size} when it was made"))
            return False
        if piece.offset != self._have(one):
            return False  # answered twice
        self.incoming.mkdir(parents=True, exist_ok=True)
        part = self._part(one)
        with part.open("ab") as file:
            file.write(piece.data)
            file.flush()
            if file.tell() < one.size:
                return False
        wrong = finish_part(one, part, folders)
        if wrong:
            self.failed.append((one, wrong))
        return not wrong

    @staticmethod
    def clear(incoming: Path) -> None:
        """Remove a folder of ours when nothing is in it."""
        with contextlib.suppress(OSError):
            incoming.rmdir()


def finish_part(one: Coming, part: Path, folders: set[Path] | None = None) -> str:
    """Verify a file that came, make it durable and give it its name; what is wrong with it, or "".

    ``folders`` gets the one that is still to be synced (without it, that is done here).
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
    if digest_of(part) != one.sha256.hex():
        part.unlink()
        return "its sha256 is another than when it was made"
    one.target.parent.mkdir(parents=True, exist_ok=True)
    part.chmod(0o644 if one.kept else 0o600)
    part.replace(one.target)
    faults.visit("engine.home_renamed")
    if folders is None:
        _sync_folder(one.target.parent)
    else:
        folders.add(one.target.parent)
    return ""


def _is_home(one: Coming) -> bool:
    """Whether these very bytes have their name at home; they are durable then."""
    try:
        if one.target.stat().st_size != one.size or digest_of(one.target) != one.sha256.hex():
            return False
        with one.target.open("rb") as file:
            os.fsync(file.fileno())
        _sync_folder(one.target.parent)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

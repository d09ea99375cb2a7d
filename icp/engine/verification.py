"""Whether outputs at home still are the bytes that were recorded (hides how much is read at once)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icp.ledger.db import Ledger
from icp.ledger.definitions import Definitions, TaskDefRow
from icp.ledger.views_results import OutputView, outputs
from icp.pilot.digest import digest_of

__all__ = ["Verified", "final_files", "kept_files", "verify", "what_is_wrong"]

JOBS = 2000
"""Jobs whose files are read from the ledger at once."""


@dataclass(slots=True)
class Verified:
    """``ok`` files of ``bytes`` are what they were; of ``wrong`` ones it is said why; ``absent`` ones are not home yet, or lost."""

    ok: int
    bytes: int
    wrong: list[tuple[OutputView, str]]
    absent: list[OutputView]


def what_is_wrong(path: Path, size: int, sha256: str, read: Callable[[int], Any] = lambda n: None) -> str:
    """Why a file is not what was recorded; "" if it is."""
    try:
        found = path.stat().st_size
        if found != size:
            return f"it has {found} bytes, and had {size}"
        digest = digest_of(path, read=read)
    except FileNotFoundError:
        return "it is gone"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if digest == sha256 else f"its sha256 is {digest[:16]}..., and was {sha256[:16]}..."


def kept_files(ledger: Ledger, dataset: int, first: int, last: int, task: TaskDefRow | None = None, *, every: bool = False) -> Iterator[OutputView]:
    """Kept files (``every``: intermediate ones too) of accepted attempts of jobs first..last, by job, a part at a time."""
    graph = Definitions(ledger.db).graph(dataset)
    for low in range(first, last + 1, JOBS):
        with ledger.read() as db:
            found = list(outputs(db, graph, first=low, last=min(last, low + JOBS - 1), task=task, every=every))
        yield from found


def final_files(ledger: Ledger, dataset: int, task: TaskDefRow | None = None, *, every: bool = False) -> Iterator[OutputView]:
    """The same of final tasks, by group."""
    graph = Definitions(ledger.db).graph(dataset)
    with ledger.read() as db:
        found = list(outputs(db, graph, first=-(10**12), last=-1, task=task, every=every))
    yield from reversed(found)


def verify(files: Iterator[OutputView], progress: Callable[[OutputView, int], Any] = lambda file, n: None) -> Verified:
    """Read these files and compare; ``progress`` is told of the file and of the bytes that were just read."""
    done = Verified(0, 0, [], [])
    for one in files:
        if one.state != "home" or one.path is None:
            done.absent.append(one)
            continue

        def read(n: int, file: OutputView = one) -> None:
            progress(file, n)

        wrong = what_is_wrong(Path(one.path), one.bytes, one.sha256, read)
        progress(one, 0)
        if wrong:
            done.wrong.append((one, wrong))
        else:
            done.ok += 1
            done.bytes += one.bytes
    return done

"""A site that loses power in the middle of an exchange: a simulation, in which what was not synced is gone.

The model is that of journalling file systems (ext4, xfs): changes of names are kept in their order, and a crash loses those behind the
last sync of anything; bytes of a file that was not itself synced are lost.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp.pilot import exchange, framing, lock, node, spool
from icp.pilot.disk import Disk

LEDGER = "0b6c1f6e-6a0e-4a53-9d8e-3f1f2f1f7c11"
NEED = b'{"any":[[]],"cpus":1,"disk":1,"gpus":0,"memory":1,"time":1}'
NEED_ID = hashlib.sha256(NEED).hexdigest()[:16]
BLOB = b"pack" * 1000
CARDS = [spool.join_card_name(0, NEED_ID, f"{index:016x}") for index in range(3)]


class PowerLost(Exception):
    """Not an OSError: nothing in the program may catch it."""


class Recording(Disk):
    """Counts operations, and at one of them forgets what was not durable."""

    def __init__(self, crash_at: int | None = None, lose: bool = True) -> None:
        self.done, self.crash_at, self.lose = 0, crash_at, lose
        self._undo: list[Callable[[], None]] = []
        self._unsynced: dict[str, int] = {}
        self._paths: dict[int, str] = {}

    def _count(self) -> None:
        self.done += 1
        if self.done == self.crash_at:
            if self.lose:
                self._forget()
            raise PowerLost

    def _forget(self) -> None:
        for path, size in self._unsynced.items():
            if os.path.exists(path):
                os.truncate(path, size)
        for undo in reversed(self._undo):
            undo()

    def append_to(self, path: str, new: bool = True) -> int:
        self._count()
        fd = super().append_to(path, new)
        self._paths[fd] = path
        self._unsynced[path] = os.fstat(fd).st_size
        self._undo.append(lambda: os.unlink(path))
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self._count()
        return super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)
        self._unsynced.pop(self._paths[fd], None)
        self._undo.clear()

    def sync_folder(self, path: str) -> None:
        self._count()
        super().sync_folder(path)
        self._undo.clear()

    def rename(self, source: str, target: str) -> None:
        self._count()
        before = Path(target).read_bytes() if os.path.isfile(target) else None
        super().rename(source, target)
        for path in list(self._unsynced):
            if path == source or path.startswith(source + "/"):
                self._unsynced[target + path[len(source) :]] = self._unsynced.pop(path)

        def undo() -> None:
            os.rename(target, source)
            if before is not None:
                Path(target).write_bytes(before)

        self._undo.append(undo)

    def mkdir(self, path: str) -> None:
        self._count()
        super().mkdir(path)
        self._undo.append(lambda: os.rmdir(path))

    def unlink(self, path: str) -> None:
        self._count()
        before = Path(path).read_bytes() if os.path.exists(path) else b""
        super().unlink(path)

        def undo() -> None:
            Path(path).write_bytes(before)

        self._undo.append(undo)


def orders() -> bytes:
    frames = [
        framing.frame("need", {"id": NEED_ID}, NEED),
        framing.frame("blob", {"sha256": hashlib.sha256(BLOB).hexdigest()}, BLOB),
    ]
    frames += [framing.frame("card", {"name": name}, name.encode()) for name in CARDS]
    frames += [framing.frame("recall", {"card": CARDS[0]}), framing.frame("cancel", {"attempt": "5d0c7b1e9a3f4426"})]
    return b"".join(frames)


def converse(root: str, disk: Disk, serial: int, body: bytes | None) -> Any:
    """The answer's ``applied``, or None."""
    promised = None if body is None else {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    hello = framing.frame("hello", {"ledger": LEDGER, "epoch": 1, "serial": serial, "orders": promised, "new": True})
    out = io.BytesIO()
    exchange.exchange(root, None, io.BytesIO(hello + (body or b"") + framing.frame("end", {})), out, disk)
    found = {one.kind: one.meta for one in framing.FrameParser().feed(out.getvalue())}
    assert "owner" in found, found
    return found.get("applied")


@pytest.mark.parametrize("lose", [True, False])
def test_power_lost_at_every_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: bool) -> None:
    monkeypatch.setenv("ICP_NODE_DIR", str(tmp_path / "node"))
    counted, expected = Recording(), None
    root = str(tmp_path / "undisturbed")
    converse(root, Disk(), 0, None)
    expected = converse(root, counted, 1, orders())
    assert expected["recall"] == {CARDS[0]: "recalled"}
    assert counted.done > 40
    for moment in range(1, counted.done + 1):
        root = str(tmp_path / f"at{moment}")
        converse(root, Disk(), 0, None)
        with pytest.raises(PowerLost):
            converse(root, Recording(moment, lose), 1, orders())
        # A tick without news first, refused or not, changes nothing of this.
        assert converse(root, Disk(), 1, orders()) == expected
        where = spool.Spool(root)
        assert {name: (Path(where.inbox) / name).read_bytes() for name in os.listdir(where.inbox)} == {
            name: name.encode() for name in CARDS[1:]
        }
        assert Path(where.need(NEED_ID)).read_bytes() == NEED
        assert Path(where.blob(hashlib.sha256(BLOB).hexdigest())).read_bytes() == BLOB
        assert os.listdir(where.recalled) == [spool.card_id(CARDS[0])]
        assert os.listdir(where.incoming) == []
        assert json.loads(Path(where.owner).read_bytes())["serial"] == 1


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setenv("ICP_NODE_DIR", str(tmp_path / "node"))
    monkeypatch.setattr(lock, "LOCK_TIMEOUT", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", broken)
        converse(str(tmp_path / "spool"), Disk(), 0, None)
    spooled = Path(tmp_path / "spool")
    assert (spooled / "lock.folder").exists()
    assert not (spooled / "lock.d").exists()
    with lock.Lock(str(spooled)), pytest.raises(lock.Busy, match=node.host()), lock.Lock(str(spooled)):
        raise AssertionError("two at once")
    # One that died on this host is broken, one of another host is not.
    for host, free in ((node.host(), True), ("elsewhere", False)):
        (spooled / "lock.d").mkdir()
        (spooled / "lock.d/holder").write_text(json.dumps({"host": host, "boot": "00000000", "pid": 1, "start": 1}))
        if free:
            assert converse(str(spooled), Disk(), 1, orders()) is not None
        else:
            with pytest.raises(lock.Busy), lock.Lock(str(spooled)):
                raise AssertionError("broken")
    assert not [name for name in os.listdir(spooled) if name.startswith("lock.d.")]

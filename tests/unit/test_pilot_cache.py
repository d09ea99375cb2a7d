"""The site's cache: right bytes or none, whoever fills it and whatever lies there."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from icp.pilot import cache as room
from icp.pilot.cache import Cache
from icp.pilot.problem import Problem


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Filler:
    """Makes a file of these bytes, and counts how often it had to."""

    def __init__(self, data: bytes) -> None:
        self.data, self.calls = data, 0

    def __call__(self, path: str) -> None:
        self.calls += 1
        Path(path).write_bytes(self.data)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Cache]:
    return lambda limit=1000, folder="cache": Cache(str(tmp_path / folder), limit, str(tmp_path / "own"))


def test_filled_once_and_found_afterwards(make: Callable[..., Cache]) -> None:
    fill = Filler(b"geometry")
    with make().get(sha(b"geometry"), fill) as entry:
        assert Path(entry.path).read_bytes() == b"geometry" and entry.filled
    with make().get(sha(b"geometry"), fill) as entry:
        assert Path(entry.path).read_bytes() == b"geometry" and not entry.filled
    assert fill.calls == 1


@pytest.mark.parametrize("into", [False, True])
def test_an_entry_whose_bytes_changed_is_fetched_anew(make: Callable[..., Cache], tmp_path: Path, into: bool) -> None:
    cache, fill, digest = make(), Filler(b"right"), sha(b"right")
    cache.get(digest, fill).close()
    path = tmp_path / "cache" / digest
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    if into:
        assert cache.into(digest, str(tmp_path / "target"), fill)
        assert (tmp_path / "target").read_bytes() == b"right"
    else:
        with cache.get(digest, fill) as entry:
            assert Path(entry.path).read_bytes() == b"right"
    assert path.read_bytes() == b"right"
    assert fill.calls == 2


def test_what_is_fetched_with_other_bytes_is_no_entry(make: Callable[..., Cache], tmp_path: Path) -> None:
    digest = sha(b"right")
    with pytest.raises(Problem) as caught:
        make().get(digest, Filler(b"wrong"))
    assert caught.value.kind == "stage"
    assert sha(b"wrong") in str(caught.value) and digest in str(caught.value)
    assert os.listdir(tmp_path / "cache") == []


def test_what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays(make: Callable[..., Cache], tmp_path: Path) -> None:
    cache = make(limit=25)
    for index, data in enumerate((b"0" * 10, b"1" * 10)):
        cache.get(sha(data), Filler(data)).close()
        old = time.time() - 5000 + 1000 * index
        os.utime(tmp_path / "cache" / sha(data), (old, old))
    cache.get(sha(b"0" * 10), Filler(b"never")).close()  # used: now the other one is the oldest
    with cache.get(sha(b"2" * 10), Filler(b"2" * 10)) as entry:
        assert entry.path.startswith(str(tmp_path / "cache"))
    assert sorted(os.listdir(tmp_path / "cache")) == sorted([sha(b"0" * 10), sha(b"2" * 10)])
    # nothing is old enough to make room for more: it is used without being kept
    with cache.get(sha(b"3" * 10), Filler(b"3" * 10)) as entry:
        assert Path(entry.path).read_bytes() == b"3" * 10
        assert entry.path.startswith(str(tmp_path / "own"))
    assert not os.path.exists(entry.path)
    assert len(os.listdir(tmp_path / "cache")) == 2


def test_larger_than_the_limit_or_no_cache_at_all(make: Callable[..., Cache], tmp_path: Path) -> None:
    for cache in (make(limit=3), make(limit=0), Cache(None, 1000, str(tmp_path / "own"))):
        assert cache.into(sha(b"large"), str(tmp_path / "target"), Filler(b"large"))
        assert (tmp_path / "target").read_bytes() == b"large"
        (tmp_path / "target").unlink()
    assert os.listdir(tmp_path / "own") == []


def test_a_cache_that_cannot_be_made_or_that_others_may_write_to_is_not_used(make: Callable[..., Cache], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / sha(b"x")).write_bytes(b"x")
    for folder in ("file/cache", "open"):
        fill = Filler(b"x")
        with make(folder=folder).get(sha(b"x"), fill) as entry:
            assert entry.path.startswith(str(tmp_path / "own"))
        assert fill.calls == 1


def test_a_full_cache_disk_costs_one_more_fetch_and_no_failure(make: Callable[..., Cache], tmp_path: Path) -> None:
    def fill(path: str) -> None:
        if path.startswith(str(tmp_path / "cache")):
            raise OSError(28, "No space left on device")
        Path(path).write_bytes(b"x")

    with make().get(sha(b"x"), fill) as entry:
        assert Path(entry.path).read_bytes() == b"x"
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.skipif(os.getuid() != 0, reason="a read-only file system is mounted")
def test_a_read_only_cache_lends_what_it_has(make: Callable[..., Cache], tmp_path: Path) -> None:
    cache = make()
    cache.get(sha(b"there"), Filler(b"there")).close()
    folder = str(tmp_path / "cache")
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        with cache.get(sha(b"there"), Filler(b"never")) as entry:
            assert not entry.filled
        with cache.get(sha(b"new"), Filler(b"new")) as entry:
            assert entry.path.startswith(str(tmp_path / "own"))
    finally:
        subprocess.run(["umount", folder], check=True)


def test_many_that_want_one_entry_fetch_it_once(make: Callable[..., Cache], tmp_path: Path) -> None:
    begun, calls = threading.Event(), []

    def fill(path: str) -> None:
        calls.append(path)
        begun.wait(30)
        Path(path).write_bytes(b"x" * 5000)

    def want(number: int) -> None:
        make(limit=10000).into(sha(b"x" * 5000), str(tmp_path / f"target.{number}"), fill)

    threads = [threading.Thread(target=want, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    while not calls:
        time.sleep(0.01)
    begun.set()
    for one in threads:
        one.join(60)
    assert len(calls) == 1
    assert all((tmp_path / f"target.{number}").read_bytes() == b"x" * 5000 for number in range(8))


_HALF = """
import sys, time
from icp.pilot.cache import Cache
def fill(path):
    open(path, "wb").write(b"half")
    print("half", flush=True)
    time.sleep(1000)
Cache(sys.argv[1], 1000, sys.argv[2]).get(sys.argv[3], fill)
"""


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_filler_that_died_or_hangs_is_noticed(make: Callable[..., Cache], tmp_path: Path, how: str) -> None:
    data = b"half and half"
    child = subprocess.Popen([sys.executable, "-c", _HALF, str(tmp_path / "cache"), str(tmp_path / "other"), sha(data)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "half\n"
        cache = make()
        if how == "killed":
            child.kill()
            child.wait()
        else:
            os.kill(child.pid, signal.SIGSTOP)
            cache.dead = 0.3
        with cache.get(sha(data), Filler(data)) as entry:
            assert Path(entry.path).read_bytes() == data
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    assert os.listdir(tmp_path / "cache") == [sha(data)]


def test_one_that_waits_is_told_to_stop(make: Callable[..., Cache], tmp_path: Path) -> None:
    claim = tmp_path / "cache" / (sha(b"x") + ".filling")
    claim.mkdir(parents=True)
    (tmp_path / "cache").chmod(0o700)
    with pytest.raises(Problem, match="given up"):
        make().get(sha(b"x"), Filler(b"x"), lambda: True)


def test_after_others_failed_one_goes_on_alone(make: Callable[..., Cache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make()
    monkeypatch.setattr(room, "_Claim", _always_taken)
    monkeypatch.setattr(cache, "_wait", lambda sha256, given_up: None)
    with cache.get(sha(b"x"), Filler(b"x")) as entry:
        assert entry.path.startswith(str(tmp_path / "own"))


def _always_taken(folder: str, sha256: str) -> None:
    raise FileExistsError(folder)


# --- what was shipped: it is at the site already, and a node's own disk keeps a copy


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    (tmp_path / "blob").write_bytes(b"tarball")
    return tmp_path / "blob"


def test_what_lies_on_the_cache_s_file_system_is_used_where_it_is(make: Callable[..., Cache], shipped: Path) -> None:
    with make().lent(sha(b"tarball"), str(shipped)) as entry:
        assert entry.path == str(shipped)
    assert shipped.read_bytes() == b"tarball"
    assert not (shipped.parent / "cache").exists()


def test_agents_of_a_node_copy_it_once_to_its_disk(near: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, calls, copy, found = threading.Event(), [], room.copy, []

    def slowly(source: str, target: str) -> str:
        calls.append(target)
        begun.wait(30)
        return copy(source, target)

    def want() -> None:
        with Cache(str(near), 1000, str(tmp_path / "own")).lent(sha(b"tarball"), str(shipped)) as entry:
            found.append((entry.path, Path(entry.path).read_bytes()))

    monkeypatch.setattr(room, "copy", slowly)
    threads = [threading.Thread(target=want) for _ in range(4)]
    for one in threads:
        one.start()
    while not calls:
        time.sleep(0.01)
    assert not (near / sha(b"tarball")).exists()
    begun.set()
    for one in threads:
        one.join(60)
    assert len(calls) == 1 and found == [(f"{near}/{sha(b'tarball')}", b"tarball")] * 4


@pytest.mark.parametrize("where", ["there", "here", "both"])
def test_what_changed_is_never_lent(near: Path, shipped: Path, tmp_path: Path, where: str) -> None:
    cache = Cache(str(near), 1000, str(tmp_path / "own"))
    cache.lent(sha(b"tarball"), str(shipped)).close()
    for path in [shipped] * (where != "here") + [near / sha(b"tarball")] * (where != "there"):
        path.chmod(0o600)
        path.write_bytes(b"tarbal1")
    if where == "both":
        with pytest.raises(Problem, match=f"{shipped} has sha256 {sha(b'tarbal1')}, expected {sha(b'tarball')}") as problem:
            cache.lent(sha(b"tarball"), str(shipped))
        assert problem.value.gone == [["cache", sha(b"tarball")]]
    else:
        with cache.lent(sha(b"tarball"), str(shipped)) as entry:
            assert Path(entry.path).read_bytes() == b"tarball"
    assert not (near / sha(b"tarball")).exists() or (near / sha(b"tarball")).read_bytes() == b"tarball"


@pytest.mark.parametrize("how", ["too large", "taken", "none"])
def test_where_there_is_no_room_what_was_shipped_is_used_where_it_is(near: Path, shipped: Path, tmp_path: Path, how: str) -> None:
    cache = Cache(None if how == "none" else str(near), 3 if how == "too large" else 10, str(tmp_path / "own"))
    if how == "taken":
        cache.get(sha(b"in use"), Filler(b"in use")).close()
    with cache.lent(sha(b"tarball"), str(shipped)) as entry:
        assert entry.path == str(shipped)
    assert not (tmp_path / "own").exists()


def test_what_is_read_for_long_is_not_evicted(make: Callable[..., Cache], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "IN_USE", 0.5)
    cache = make(limit=10)
    with cache.get(sha(b"0" * 10), Filler(b"0" * 10)) as entry:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            time.sleep(0.02)
            entry.still()
        cache.get(sha(b"1" * 10), Filler(b"1" * 10)).close()
        assert Path(entry.path).exists()
    time.sleep(0.7)
    cache.get(sha(b"2" * 10), Filler(b"2" * 10)).close()
    assert os.listdir(tmp_path / "cache") == [sha(b"2" * 10)]

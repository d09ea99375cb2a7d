"""A home of its own for each test, the command as a process, and nothing left running behind (hides where tests may write)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

# the machines that run this are busy: how long one example takes says nothing
# in CI the same examples each time, new ones everywhere else: what they find there is mended before it lands
settings.register_profile("icp", deadline=None, print_blob=True, derandomize=os.environ.get("CI") == "true")
settings.load_profile("icp")

KEPT = ("ICP_TEST_PATIENCE", "ICP_TEST_PBS", "ICP_TEST_SSH_CONFIG", "ICP_LAB", "ICP_LAB_BASE", "ICP_TORTURE_SEED")


class Ran(NamedTuple):
    """How a command ended."""

    rc: int
    out: str
    err: str


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("ICP_LAB") != "1":
        for item in items:
            if item.get_closest_marker("lab"):
                item.add_marker(pytest.mark.skip(reason="needs the lab: ICP_LAB=1"))
    else:
        items[:] = long_ones_first(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


def long_ones_first(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Each worker begins with its share of those that may take longest; in an order by chance the last of them would be waited for alone."""

    def long(item: pytest.Item) -> bool:
        limit = item.get_closest_marker("timeout")
        return limit is not None and limit.args[0] >= 450

    found, others = [one for one in items if long(one)], [one for one in items if not long(one)]
    each = -(-len(others) // workers)
    return [one for part in range(workers) for one in (*found[part::workers], *others[part * each : (part + 1) * each])]


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Everything that icp writes to lies below this directory; processes that were told of it are ended with the test."""
    root = tmp_path_factory.mktemp("isolated")
    interpreters = Path.home() / ".pyenv"
    for name in [one for one in os.environ if one.startswith(("ICP_", "XDG_")) and one not in KEPT]:
        monkeypatch.delenv(name)
    places = {"HOME": "user", "ICP_HOME": "icp", "ICP_NODE_DIR": "node", "TMPDIR": "tmp", "XDG_CONFIG_HOME": "config"}
    places |= {"XDG_DATA_HOME": "data", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}
    for name, folder in places.items():
        (root / folder).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(root / folder))
    monkeypatch.setenv("COLUMNS", "100")
    if interpreters.is_dir():
        (root / "user" / ".pyenv").symlink_to(interpreters)  # where tests look for old Pythons
    monkeypatch.setattr("tempfile.tempdir", None)
    yield root
    _end_processes(f"={root}/".encode())


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than ``tmp_path``, as a node's own disk is another than the site's."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    if folder.stat().st_dev == tmp_path.stat().st_dev:
        folder.rmdir()
        pytest.skip("/dev/shm is no other file system here")
    yield folder
    shutil.rmtree(folder)


def _end_processes(marker: bytes) -> None:
    """End, with SIGKILL, each process whose environment names this test's own directory; only those."""
    deadline = time.monotonic() + 10
    while found := [pid for pid in _running() if marker in _environment(pid)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < deadline, f"processes {found} do not end"
        time.sleep(0.01)


def _running() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()  # nothing, of a process that waits to be reaped
    except OSError:
        return b""


@pytest.fixture
def icp(tmp_path: Path) -> Callable[..., Ran]:
    """``icp("status", "--json")`` -> (rc, out, err): the command as a process of its own, in the test's directory and home."""

    def run(*words: object, stdin: str = "", cwd: Path | None = None, timeout: float = 60, **environment: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "icp", *map(str, words)], input=stdin, capture_output=True, text=True, check=False,
            cwd=cwd or tmp_path, timeout=timeout, env={**os.environ, **environment},
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    return run

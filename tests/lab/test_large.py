"""A file of 40 MB to a site and another one back, while the connection breaks again and again in its midst."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from icp.config import load
from icp.ledger.check import check
from icp.ledger.db import open_ledger
from tests.conftest import Ran
from tests.lab.sites import LabSite

pytestmark = pytest.mark.lab

SIZE = 40_000_000
CONFIG = """\
[ssh]
config = "{config}"
[run]
pause = 0.5
pause_local = 0.2
[site.here]
attributes = {{ HERE = true }}
pilot = {{ cpus = 1, idle = 5 }}
[site.far]
host = "{host}"
root = "/home/alice/.icp/large"
attributes = {{ FAR = true }}
pilot = {{ cpus = 1, idle = 5 }}
"""
STEERING = """\
name = "large"
jobs = 1
files = ["make.py"]
[task.make]
requirements = "$attr(HERE)"
command = "python3 make.py"
outputs = ["big.bin"]
[task.turn]
requirements = "$attr(FAR)"
inputs = ["make:big.bin"]
command = "python3 -c 'open(\\"back.bin\\", \\"wb\\").write(open(\\"big.bin\\", \\"rb\\").read()[::-1])'"
outputs = ["back.bin"]
"""
MAKE = f"import random; open('big.bin', 'wb').write(random.Random(5).randbytes({SIZE}))\n"


def clients(home: Path, word: bytes) -> list[int]:
    """ssh clients of this home's sessions whose command has this word; b"-MNf": the shared connection."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                if str(home).encode() in line and word in line and line.startswith(b"ssh"):
                    found.append(int(name))
            except OSError:
                continue
    return found


def test_large_files_go_on_where_they_broke_off(nsa: LabSite, tmp_path: Path, icp: Callable[..., Ran]) -> None:
    home = Path(os.environ["ICP_HOME"])
    (home / "config.toml").write_text(CONFIG.format(config=nsa.lab.ssh_config, host=nsa.name))
    (tmp_path / "steering.toml").write_text(STEERING)
    (tmp_path / "make.py").write_text(MAKE)
    nsa.net("delay", 10)  # slow enough to be seen
    try:
        done = icp("submit", "steering.toml")
        assert done.rc == 0, done.err
        engine = subprocess.Popen([sys.executable, "-m", "icp", "run", "--until-done", "--quiet"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        cut = {b" receive ": 0, b" send ": 0}
        kept: dict[str, list[int]] = {}
        end = time.monotonic() + 200
        while engine.poll() is None:
            assert time.monotonic() < end, cut
            for word, n in cut.items():
                seen = clients(home, word)
                if seen and n < 2:
                    time.sleep(0.3)
                    for pid in seen:
                        try:
                            os.kill(pid, signal.SIGKILL)
                            cut[word] += 1
                        except ProcessLookupError:
                            pass
            parts = list((home / "incoming").glob("*")) if (home / "incoming").is_dir() else []
            for path in parts:
                with contextlib.suppress(FileNotFoundError):
                    kept.setdefault(path.name, []).append(path.stat().st_size)
            time.sleep(0.05)
        assert engine.returncode == 0, engine.communicate()[1]
        engine.communicate()
    finally:
        nsa.net("up")
    assert any(cut.values()), cut  # on a quick machine one way may be over before anybody can cut it
    assert all(sizes == sorted(sizes) for sizes in kept.values())  # nothing was fetched twice
    assert any(size % 16_000_000 and size != SIZE for sizes in kept.values() for size in sizes)  # what came before a break stayed
    data = random.Random(5).randbytes(SIZE)[::-1]
    assert hashlib.sha256((tmp_path / "outputs" / "large" / "000000" / "back.bin").read_bytes()).digest() == hashlib.sha256(data).digest()
    ledger = open_ledger(load().ledger)
    assert check(ledger, deep=True) == []
    assert ledger.db.execute("SELECT count(*) FROM attempt").fetchone() == (2,)
    ledger.close()
    left = nsa.ssh("find .icp/large -path '*/cache/*' -o -path '*/store/*' -o -path '*/inbox/*'")
    assert left.stdout == "", left.stdout

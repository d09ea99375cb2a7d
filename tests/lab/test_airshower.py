"""The example examples/airshower at two real clusters: a generator from PyPI, its environment shipped, the same bytes there as here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.lab.sites import LabSite

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "airshower"
SITE = """\
[site.{name}]
{more}
[site.{name}.pilot]
cpus = 2
memory = "3 GB"
max = 1
max_pending = 1
idle = 5
"""
AT = 'attributes.Half = {half}\nhost = "{name}"\nscheduler = "slurm"\nroot = "/home/alice/.icp/air-{pid}"'


def script() -> Any:
    """environment.py of the example."""
    found = importlib.util.spec_from_file_location("environment", EXAMPLE / "environment.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its environment, and few showers: made once, whatever the number of test processes."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if shared.name.startswith("popen-") else shared) / "airshower"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.tar.gz", "__pycache__"))
            made = subprocess.run([sys.executable, "environment.py", "--write"], cwd=folder, capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"the environment could not be made, and no shower was computed: {made.stderr.strip()}")
            steering = folder / "steering.toml"
            text = steering.read_text()
            assert text.count("\nresources") == 3
            # each cluster has its half of the jobs
            text = text.replace("\nresources", '\nrequirements = "$attr(All) or $attr(Half) == $eval($args(job) % 2)"\nresources', 2)
            for whole, few in (("run = 4", "run = 2"), ("showers = 6", "showers = 1"), ("max = 3e5", "max = 6e4")):
                assert text.count(whole) == 1, whole
                text = text.replace(whole, few)
            steering.write_text(text)
            (folder / "made").touch()
    return folder


def icp(home: Path, *words: str, timeout: float = 240) -> str:
    env = {**os.environ, "ICP_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "icp", *words], env=env, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"icp {' '.join(words)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run(home: Path, example: Path, config: str) -> dict[str, bytes]:
    """All outputs of the whole dataset, computed by these sites."""
    home.mkdir()
    (home / "config.toml").write_text(config)
    icp(home, "submit", str(example / "steering.toml"), "--seed", "5", "--outputs", str(home / "out"))
    icp(home, "run", "--until-done", "--quiet", timeout=500)
    return {str(path.relative_to(home / "out")): path.read_bytes() for path in sorted((home / "out").rglob("*")) if path.is_file()}


@pytest.mark.lab
@pytest.mark.timeout(900)
def test_showers_at_two_clusters_are_those_computed_here(tmp_path: Path, example: Path, nsa: LabSite, nsb: LabSite) -> None:
    here = run(tmp_path / "here", example, SITE.format(name="local", more="attributes.All = true"))
    assert {Path(name).name for name in here} == {"events.csv", "composition.csv", "composition.svg"}

    there = tmp_path / "there"
    config = f'[ssh]\nconfig = "{nsa.lab.ssh_config}"\n'
    for half, site in enumerate((nsa, nsb)):
        config += SITE.format(name=site.name, more=AT.format(name=site.name, half=half, pid=os.getpid()))
    found = run(there, example, config)
    assert found == here

    with sqlite3.connect(there / "ledger.sqlite") as db:
        worked = db.execute(
            "SELECT s.name, count(*) FROM attempt a JOIN agent g ON g.id = a.agent JOIN site s ON s.id = g.site WHERE a.state = 5 GROUP BY s.name"
        ).fetchall()
    assert {name for name, _ in worked} == {nsa.name, nsb.name}, worked

    stats = {row["name"]: row for row in json.loads(icp(there, "stats", "airshower", "--by", "dataset", "--json"))}
    assert stats["primaries"]["sum"] == 4
    assert stats["showers"]["sum"] == 8  # with two models
    assert stats["interactions"]["sum"] == stats["interactions.sibyll21"]["sum"] + stats["interactions.sibyll23d"]["sum"] > 100
    assert stats["events"]["sum"] == stats["plotted"]["sum"]
    assert stats["merge.files"]["sum"] == 4
    shown = icp(there, "show", "airshower", "--job", "0")
    assert "Python 3." in shown
    assert "tarball" in shown


def test_a_node_with_another_python_says_so_in_one_sentence(tmp_path: Path) -> None:
    made = script()
    (tmp_path / "lib").mkdir()
    text = (EXAMPLE / "setup.sh").read_text().replace("@PYTHON@", "3.4")
    with (tmp_path / "chromo.tar.gz").open("wb") as stream:
        made.pack(tmp_path / "lib", text, stream)
    for name in ("steering.toml", "airshower.py", "cascade.py", "picture.py"):
        shutil.copy(EXAMPLE / name, tmp_path)
    made.write(tmp_path / "steering.toml", {"platform": "any", "sha256": hashlib.sha256((tmp_path / "chromo.tar.gz").read_bytes()).hexdigest()})
    env = {**os.environ, "ICP_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "icp", "local", str(tmp_path / "steering.toml"), "--task", "showers"]
    done = subprocess.run(words, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "software chromo: its environment cannot be entered (tarball): these libraries are for Python 3.4, and python3 here is 3." in said
    assert "Traceback" not in said

"""The seam to Parsl on the oldest release that is supported and on the newest there is, each in an environment for the moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = Path.home()  # before a test gets a home of its own: pip's settings and cache are there

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.mark.parametrize("release", ["parsl==2024.12.9", "parsl"])
def test_contract_holds(release: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(HOME), "PYTHONPATH": str(ROOT)}

    def run(*words: object) -> None:
        done = subprocess.run([*map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=550, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", release, "pytest", "pytest-timeout", "hypothesis")
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=", "-m", "not lab", "tests/contract/test_provider.py",
        "tests/contract/test_batch_systems.py")

"""`make torture`: a hundred kills of the engine, and many more of the rest, by the wall clock; ICP_TORTURE_SEED repeats one."""

from __future__ import annotations

import os
import secrets

import pytest
from torture import torture


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_torture(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("ICP_TORTURE_SEED") or secrets.randbits(32))
    with capsys.disabled():
        print()
        torture(seed, kills=100, jobs=200)

"""Every batch system against every way in which one has misled people, on answers as recorded (where, see docs/batch-systems.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from icp.backends.batch import system
from icp.backends.batch.conformance import ROWS, Specimen, load

GOLDEN = Path(__file__).parents[1] / "golden"
SYSTEMS = ("slurm", "sge", "condor", "pbs", "torque", "lsf")


@cache
def specimen(name: str) -> Specimen:
    return load(GOLDEN / name, system(name))


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_batch_system(name: str, row: Callable[[Specimen], None]) -> None:
    row(specimen(name))

"""A backup taken anywhere in a history of bags, restored anywhere later: nothing is counted twice, and everything ends."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp.ledger.db import backup
from tests.property.engine_scene import QUICK, Scene
from tests.property.test_engine import HISTORIES, SHAPES, STEPS, History, finish, leave


@pytest.mark.long
@HISTORIES
@given(
    shape=st.sampled_from(("single", "chain", "diamond")),
    jobs=st.integers(1, 4),
    slurm=st.booleans(),
    before=STEPS,
    after=STEPS,
)
def test_a_backup_restored_anywhere_counts_nothing_twice(shape, jobs, slurm, before, after):
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), policy=replace(QUICK, stay=1.0), slurm=slurm, bags=("near",))
        try:
            dataset = scene.submit(jobs, *SHAPES[shape])
            history = History(scene, dataset, jobs)
            for step in before:
                history(step)
            copy = Path(folder) / "backup.sqlite"
            backup(scene.desk, copy)
            for step in after:
                history(step)
            scene.modes.clear()
            scene.crash = None
            scene.restore(copy)
            finish(scene, dataset)
            leave(scene)
        finally:
            scene.close()

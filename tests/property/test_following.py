"""Three datasets of which each follows the one before, under every fault and command: each output is given once, and all of it is done."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from icp.errors import Refused
from icp.ledger import chaining
from icp.model.chains import columns
from icp.model.definition import JobSource, OutputDef
from icp.states import Dataset, Task
from tests.ledger.build import task
from tests.property.engine_scene import QUICK, Scene
from tests.property.test_engine import HISTORIES, STEPS, History

FIRST = {"one": (task("a", outputs=["a.txt"]),), "many": (task("a", outputs=[OutputDef("a.txt", glob=True, optional=True)]),)}
SECOND = (task("r", outputs=["r.txt"]), task("s", inputs=["r:r.txt"], outputs=["s.txt"]))
THIRD = (task("t", outputs=["t.txt"]), task("sum", inputs=["t:t.txt[*]"], outputs=["sum.txt"], final=True))
GROUPS = st.sampled_from([
    {}, {"group": 1}, {"group": 2}, {"group": 3}, {"group_by": "$eval($args(job) % 2)"}, {"group": 2, "group_by": "$eval($args(job) // 3)"},
])  # fmt: skip


def follow(source, group):
    names = columns(grouped=bool(group), keyed="group_by" in group)
    return JobSource("rows", 0, columns=names, source=source, follow=True, **group)


class Chain(History):
    """A history whose user has three datasets."""

    def __init__(self, scene, datasets):
        super().__init__(scene, datasets[0], 1)
        self.datasets = datasets

    def user(self, what, i, j, k):
        self.dataset = self.datasets[k % 3]
        self.jobs = self.scene.one("SELECT jobs FROM dataset WHERE id = ?", self.dataset)
        if self.jobs:
            super().user(what, i, j, k)


def finish(scene, datasets):
    """A person looks after what waits for one, until all of it is complete."""
    for _ in range(12):
        scene.settle()
        states = {one: scene.state(one) for one in datasets}
        if set(states.values()) <= {Dataset.COMPLETE, Dataset.CANCELLED}:
            return
        for one, state in states.items():
            jobs = scene.one("SELECT jobs FROM dataset WHERE id = ?", one)
            control = scene.control(one)
            if state == Dataset.SUSPENDED:
                for changed in chaining.changed(scene.db, one, 0, jobs - 1):
                    if changed.now is not None:
                        control.reset_jobs(changed.job, changed.job)
                    elif not changed.again:
                        control.cancel_jobs(changed.job, changed.job)
                control.resume()
            elif state == Dataset.PROCESSING and jobs:
                control.resume_jobs(0, jobs - 1)
                if Task.FAILED in scene.states(one).values():
                    control.retry_jobs(0, jobs - 1)
    raise AssertionError([(one, scene.state(one), scene.one("SELECT reason FROM dataset WHERE id = ?", one), scene.states(one)) for one in datasets])


# each of these is three histories
@pytest.mark.timeout(900)
@pytest.mark.long
@settings(HISTORIES, max_examples=HISTORIES.max_examples // 3)
@given(
    st.sampled_from(sorted(FIRST)), st.integers(1, 5), GROUPS, GROUPS, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=3), STEPS
)  # fmt: skip
def test_each_output_is_given_once_and_the_chain_ends(shape, jobs, second, third, resets, steps):
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), sites=("near", "far"), policy=QUICK)
        try:
            datasets = [
                scene.submit(jobs, *FIRST[shape], name="first"), scene.submit(follow("dataset:first/a:a.txt", second), *SECOND, name="second"),
                scene.submit(follow("dataset:second/s:s.txt", third), *THIRD, name="third"),
            ]  # fmt: skip
            chain = Chain(scene, datasets)
            # half way all of it is done, and some is reset
            for half in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
                for step in half:
                    try:
                        chain(step)
                    except Refused as refused:
                        note(f"refused: {refused}")
                finish(scene, datasets)
                for level, job in resets:
                    if job < scene.one("SELECT jobs FROM dataset WHERE id = ?", datasets[level]) and scene.state(datasets[level]) != Dataset.CANCELLED:
                        scene.control(datasets[level]).reset_jobs(job, job)
                        scene.verify()
            finish(scene, datasets)
            scene.verify()
            for parent, child in ((datasets[0], datasets[1]), (datasets[1], datasets[2])):
                if scene.state(child) == Dataset.CANCELLED:
                    continue
                output = "a" if parent == datasets[0] else "s"
                made = scene.db.execute(
                    "SELECT t.id FROM task t JOIN task_def k ON k.id = t.task_def JOIN file f ON f.attempt = t.accepted WHERE t.dataset = ? AND k.name = ?",
                    (parent, output),
                ).fetchall()
                taken = Counter(row[0] for row in scene.db.execute("SELECT task FROM source WHERE dataset = ? AND job IS NOT NULL", (child,)).fetchall())
                assert {one for (one,) in made} <= set(taken) and set(taken.values()) <= {1}
        finally:
            scene.close()

"""Ranges of jobs that are rows, or not yet: a model of one job after the other against the ledger's few rows."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.errors import Refused
from icp.ledger import ranges
from icp.ledger.check import check
from icp.states import Task
from tests.ledger.build import World, task

CHAIN = (task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))
GROUPED = (
    *CHAIN,
    task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True, group_by="$eval($args(job) // 2)"),
)
NOT_ROWS = ("none", "cancel", "suspend", "release")


class Model:
    """job -> one of NOT_ROWS, or ``rows``; the states of the tasks of those that are rows."""

    def __init__(self, jobs):
        self.jobs = dict.fromkeys(range(jobs), "none")
        self.rows = {}
        self.priority = {}
        self.mark = 0

    def tell(self, event, first, last, only):
        for job in range(first, last + 1):
            status = self.jobs[job]
            if status == "rows":
                self._row(event, job, only)
            elif only is None:
                after = {
                    "suspend": {"none": "suspend", "release": "suspend"},
                    "resume": {"suspend": "release"},
                    "cancel": {"none": "cancel", "release": "cancel", "suspend": "cancel"},
                    "reset": {"cancel": "release", "suspend": "release"},
                    "retry": {},
                }[event].get(status, status)
                self.jobs[job] = "none" if after == "release" and job >= self.mark else after

    def _row(self, event, job, only):
        tasks = self.rows[job]
        if event == "reset" and only == "b" and tasks["a"] == "cancelled":
            only = None  # what was given up before it comes back with it
        for name in ("a", "b"):
            if only is not None and name != only and not (event in ("reset", "cancel") and only == "a"):
                continue
            state = tasks[name]
            if event == "suspend" and state in ("waiting", "idle"):
                tasks[name] = "suspended"
            elif event == "cancel" and state not in ("ok", "cancelled"):
                tasks[name] = "cancelled"
            elif (event == "resume" and state == "suspended") or event == "reset":
                tasks[name] = "waiting"
        for name in ("a", "b"):
            if tasks[name] in ("waiting", "idle"):
                tasks[name] = "idle" if name == "b" and tasks["a"] != "ok" else "waiting"

    def release(self, jobs):
        for job in jobs:
            assert self.jobs[job] in ("none", "release")
            self.jobs[job] = "rows"
            self.rows[job] = {"a": "waiting", "b": "idle"}
        while self.mark < len(self.jobs) and self.jobs[self.mark] != "none":
            self.mark += 1

    def tally(self):
        counted = {}
        for job, status in self.jobs.items():
            states = (
                self.rows[job].values()
                if status == "rows"
                else {"cancel": ["cancelled"] * 2, "suspend": ["suspended"] * 2}.get(status, [])
            )
            for state in states:
                counted[state] = counted.get(state, 0) + 1
        return counted


EVENTS = st.sampled_from(("suspend", "resume", "cancel", "reset", "retry"))
EDGE = st.integers(0, 59)
STEPS = st.lists(
    st.one_of(
        st.tuples(EVENTS, EDGE, EDGE, st.sampled_from((None, None, None, "a", "b"))),
        st.tuples(st.just("release"), st.integers(1, 25)),
        st.tuples(st.just("priority"), EDGE, EDGE, st.integers(-1, 2)),
    ),
    max_size=14,
)


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@given(jobs=st.integers(1, 60), grouped=st.booleans(), steps=STEPS)
def test_commands_and_releases_leave_what_a_plain_list_of_jobs_says(tmp_path_factory, jobs, grouped, steps):
    world = World(tmp_path_factory.mktemp("w"))
    world.db.execute("PRAGMA synchronous = OFF")
    try:
        dataset = world.submit(jobs, *(GROUPED if grouped else CHAIN))
        names = {row.name: row.id for row in world.definitions.graph(dataset).defs.values()}
        model = Model(jobs)
        for step in steps:
            if step[0] == "release":
                chosen = world.release(dataset, step[1])
                able = [job for job, status in model.jobs.items() if status in ("none", "release")]
                assert len(chosen) == len(set(chosen)) == min(step[1], len(able))
                assert set(chosen) <= set(able)
                model.release(chosen)
                at = dict(world.db.execute("SELECT job, priority FROM task WHERE job >= 0").fetchall())
                for job in chosen:
                    assert at[job] == model.priority.get(job, 0)
            elif step[0] == "priority":
                first, last = sorted((step[1] % jobs, step[2] % jobs))
                world.control(dataset).prioritise_jobs(first, last, step[3])
                for job in range(first, last + 1):
                    model.priority[job] = step[3]
                    if step[3] > 0 and model.jobs[job] == "none":
                        model.jobs[job] = "release"
            else:
                first, last = sorted((step[1] % jobs, step[2] % jobs))
                getattr(world.control(dataset), f"{step[0]}_jobs")(first, last, names.get(step[3]))
                model.tell(step[0], first, last, step[3])
            verify(world, dataset, model)
        everything_ends(world, dataset, model)
    finally:
        world.close()


def verify(world, dataset, model):
    assert check(world.ledger) == []
    kept = {
        Task(state).name.lower(): n
        for state, n in world.db.execute("SELECT state, n FROM dataset_tally WHERE dataset = ?", (dataset,)).fetchall()
        if n
    }
    finals = world.db.execute("SELECT count(*) FROM task WHERE job < 0").fetchone()[0]
    assert finals == 0 and kept == model.tally()
    said = {}
    for low, high, status in ranges.segments(world.db, dataset, 0, len(model.jobs) - 1):
        said.update(dict.fromkeys(range(low, high + 1), status))
    # jobs that were told to come first are `release` wherever they are; to the model that is still `none` above the mark
    plain = {"release": "none"}
    assert {job: plain.get(one, one) for job, one in said.items()} == {
        job: plain.get(one, one) for job, one in model.jobs.items()
    }


def everything_ends(world, dataset, model):
    """After a resume of everything all that is not cancelled runs, and nothing is left."""
    world.control(dataset).resume_jobs(0, len(model.jobs) - 1)
    world.run(dataset)
    assert check(world.ledger) == []
    for job, state in world.db.execute(
        "SELECT job, state FROM task WHERE dataset = ? AND job >= 0", (dataset,)
    ).fetchall():
        assert state in (Task.OK, Task.CANCELLED), job


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def statements(world, action):
    """How many SQL statements this takes."""
    seen = []
    world.db.set_trace_callback(seen.append)
    try:
        action()
    finally:
        world.db.set_trace_callback(None)
    return len([one for one in seen if not one.startswith(("BEGIN", "COMMIT"))])


SEVEN = [
    task("t0", outputs=["x0"]),
    *(task(f"t{i}", inputs=[f"t{i - 1}:x{i - 1}"], outputs=[f"x{i}"]) for i in range(1, 7)),
]
LARGE = 10_000_000


def commands(world, jobs):
    """Statements of a submission, and of commands on ranges that do not exist yet; rows of everything behind them."""
    numbers = {}
    made = []
    numbers["submit"] = statements(
        world,
        lambda: made.append(world.submit(jobs, *SEVEN, task("sum", inputs=["t6:x6[*]"], final=True), name=f"d{jobs}")),
    )
    dataset = made[0]
    half = jobs // 2
    for name, action in {
        "cancel": lambda: world.control(dataset).cancel_jobs(half, jobs - 1),
        "suspend": lambda: world.control(dataset).suspend_jobs(10, half - 1),
        "priority": lambda: world.control(dataset).prioritise_jobs(0, half, 7),
        "resume": lambda: world.control(dataset).resume_jobs(20, half - 1),
        "reset": lambda: world.control(dataset).reset_jobs(half, half + 9),
        "suspend all": lambda: world.control(dataset).suspend_jobs(0, jobs - 1),
        "cancel all": lambda: world.control(dataset).cancel_jobs(0, jobs - 1),
    }.items():
        numbers[name] = statements(world, action)
    rows = {
        table: world.db.execute(f"SELECT count(*) FROM {table} WHERE dataset = ?", (dataset,)).fetchone()[0]
        for table in ("task", "range", "dataset_tally")
    }
    tally = dict(
        world.db.execute("SELECT state, n FROM dataset_tally WHERE dataset = ? AND n <> 0", (dataset,)).fetchall()
    )
    return numbers, rows, tally


def test_ten_million_jobs_of_seven_tasks_cost_as_many_statements_as_a_hundred(world):
    few, few_rows, _ = commands(world, 100)
    many, many_rows, tally = commands(world, LARGE)
    assert many == few and many_rows == few_rows
    assert many_rows["task"] == 0 and many_rows["range"] < 10
    assert tally == {int(Task.CANCELLED): LARGE * 7}
    assert check(world.ledger) == []


def test_a_job_told_to_come_first_comes_first(world):
    dataset = world.submit(LARGE, *CHAIN)
    world.control(dataset).prioritise_jobs(9_000_000, 9_000_002, 5)
    world.control(dataset).prioritise_jobs(5_000_000, 5_000_000, 9)
    assert world.release(dataset, 5) == [5_000_000, 9_000_000, 9_000_001, 9_000_002, 0]
    assert world.release(dataset, 2) == [1, 2]
    assert check(world.ledger) == []


def test_a_later_word_on_priority_counts_and_does_not_pile_up(world):
    dataset = world.submit(1000, *CHAIN)
    for value in range(50):
        world.control(dataset).prioritise_jobs(100, 199, value)
    assert world.db.execute("SELECT count(*) FROM range WHERE action = 'priority'").fetchone()[0] <= 3
    world.release(dataset, 1)
    assert world.db.execute("SELECT DISTINCT priority FROM task").fetchall() == [(49,)]


def test_a_cancelled_dataset_cannot_be_reset(world):
    dataset = world.submit(3, *CHAIN)
    world.release(dataset)
    world.control(dataset).cancel()
    with pytest.raises(Refused):
        world.control(dataset).reset_jobs(0, 2)


def test_the_ledger_refuses_a_range_of_an_unknown_kind(world):
    with pytest.raises(sqlite3.IntegrityError):
        world.db.execute("INSERT INTO range (dataset, first, last, action) VALUES (1, 0, 1, 'explode')")

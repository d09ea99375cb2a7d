"""What the looking commands read: counts, derived states, names, files; and that no query of a view or of the engine's rooms scans a big table."""

import re

import pytest

from icp.errors import BadInput, NotFound
from icp.ledger import views, views_jobs, views_results, views_stats, views_work
from icp.ledger.files import sweep
from icp.ledger.snapshot import read_snapshot
from icp.model.plan import PilotSpec
from icp.states import Task
from tests.ledger.build import World, task

CHAIN = (task("a", outputs=["a.txt"]), task("b", inputs=["a:a.txt"], outputs=["b.txt"]))
FINAL = (*CHAIN, task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True))
GROUPED = (*CHAIN, task("sum", inputs=["b:b.txt[*]"], outputs=["sum.txt"], final=True, group_by="g"))


@pytest.fixture
def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.close()


def one(world, dataset):
    return views.one_dataset(world.db, dataset)


# -- datasets -----------------------------------------------------------------------------------------------------


def test_tasks_of_jobs_that_are_no_rows_yet_are_counted_as_unreleased(world):
    dataset = world.submit(10, *FINAL)
    view = one(world, dataset)
    assert (view.tasks, view.unreleased, view.waiting, view.state) == (21, 21, 0, "processing")
    world.release(dataset, 4)
    view = one(world, dataset)
    assert (view.waiting, view.idle, view.unreleased) == (4, 4, 13)


@pytest.mark.parametrize("defs", [CHAIN, FINAL, GROUPED], ids=["chain", "final", "grouped"])
def test_the_numbers_of_a_dataset_always_add_up_to_all_its_tasks(world, defs):
    dataset = world.submit(6, *defs)

    def whole():
        view = one(world, dataset)
        parts = (view.ok, view.processing, view.queued, view.waiting, view.idle, view.unreleased, view.failed, view.suspended, view.cancelled)
        assert sum(parts) == view.tasks
        return view

    agent = world.agent()
    whole()
    world.control(dataset).cancel_jobs(5, 5)
    whole()
    world.release(dataset, 3)
    whole()
    tries = world.deal(dataset)
    world.claim(agent, tries[0])
    whole()
    world.ended(agent, tries[0])
    world.run(dataset, agent)
    view = whole()
    assert view.state == "complete"
    assert view.ok + view.cancelled == view.tasks


def test_a_dataset_in_which_nothing_moves_and_something_failed_is_shown_with_errors(world):
    dataset = world.submit(2, task("a", max_tries=1), task("b", after=["a"]))
    agent = world.agent()
    world.release(dataset)
    first, second = world.deal(dataset)
    world.claim(agent, first, second)
    world.ended(agent, first, result="error")
    assert one(world, dataset).state == "processing"
    world.ended(agent, second, result="error")
    view = one(world, dataset)
    assert (view.state, view.failed, view.idle) == ("errors", 2, 2)
    world.control(dataset).retry_jobs(0, 1)
    assert one(world, dataset).state == "processing"


def test_jobs_that_can_still_be_released_are_no_errors(world):
    dataset = world.submit(2, task("a", max_tries=1))
    agent = world.agent()
    world.release(dataset, 1)
    (first,) = world.deal(dataset)
    world.claim(agent, first)
    world.ended(agent, first, result="error")
    assert one(world, dataset).state == "processing"
    world.control(dataset).suspend_jobs(1, 1)
    assert one(world, dataset).state == "errors"


def test_ended_datasets_are_limited_and_those_at_work_are_not(world):
    for name in ("a", "b", "c"):
        world.run(world.submit(1, name=name))
    working = world.submit(1, name="w", category="x")
    assert [row.name for row in views.datasets(world.db, ended=1)] == ["c", "w"]
    assert [row.name for row in views.datasets(world.db)] == ["a", "b", "c", "w"]
    assert [row.number for row in views.datasets(world.db, category="x")] == [working]
    world.release(working)
    world.deal(working)
    assert [row.name for row in views.datasets(world.db, site="local")] == ["w"]
    assert views.datasets(world.db, site="nowhere") == []


def test_a_dataset_is_found_by_name_number_and_unique_beginning(world):
    first, second, third = world.submit(1, name="muons"), world.submit(1, name="muons-2"), world.submit(1, name="1")
    assert views.find_dataset(world.db, "muons") == first
    assert views.find_dataset(world.db, "muons-") == second
    assert views.find_dataset(world.db, "2") == second
    assert views.find_dataset(world.db, "1") == third  # a name wins over a number
    with pytest.raises(BadInput, match=r"muons \(1\), muons-2 \(2\)"):
        views.find_dataset(world.db, "mu")
    with pytest.raises(NotFound) as caught:
        views.find_dataset(world.db, "moons")
    assert caught.value.hint == "did you mean muons?"
    for text in ("", "99999999999999999999999", "-1", "٣"):
        with pytest.raises(NotFound):
            views.find_dataset(world.db, text)


def test_a_deleted_dataset_is_not_found_by_its_name(world):
    dataset = world.submit(1, name="old")
    world.run(dataset)
    world.control(dataset).delete()
    with pytest.raises(NotFound):
        views.find_dataset(world.db, "old")
    assert views.datasets(world.db) == []


# -- sites and errors ---------------------------------------------------------------------------------------------


def test_a_site_shows_pilots_slots_and_what_is_there(world):
    dataset = world.submit(5)
    agent = world.agent(cpus=2)
    world.release(dataset)
    tries = world.deal(dataset)
    world.claim(agent, *tries[:3])
    (site,) = views.sites(world.db)
    assert (site.pilots, site.slots, site.busy, site.processing, site.queued) == ({"running": 1}, 2, 2, 3, 2)
    assert site.reachable


def test_errors_with_one_fingerprint_are_one_line_and_those_left_behind_are_none(world):
    dataset = world.submit(3, task("a", max_tries=1))
    agent = world.agent()
    world.release(dataset)
    tries = world.deal(dataset)
    world.claim(agent, *tries)
    world.ended(agent, tries[0], result="error", err="bad file 17")
    world.ended(agent, tries[1], result="error", err="bad file 18")
    world.ended(agent, tries[2], result="error", err="other")
    found = views.last_errors(world.db, [dataset])
    assert [(row.n, row.text) for row in found] == [(1, "other"), (2, "bad file 18")]
    world.control(dataset).retry_jobs(0, 2)
    assert views.last_errors(world.db, [dataset]) == []


# -- jobs and tasks -----------------------------------------------------------------------------------------------


def jobs_of(world, dataset, first=0, last=None, **filters):
    graph = world.definitions.graph(dataset)
    last = one(world, dataset).jobs - 1 if last is None else last
    return [(row.job, row.last, row.state) for row in views_jobs.jobs(world.db, graph, first, last, **filters)]


@pytest.fixture
def mixed(world):
    """Jobs 0 ok, 1 failed, 2 processing, 3 queued, 4 waiting, 5 suspended, 6 suspended unreleased, 7 cancelled unreleased, 8-9 unreleased."""
    dataset = world.submit(10, task("a", max_tries=1), task("b", after=["a"]))
    agent = world.agent()
    world.release(dataset, 6)
    tries = world.deal(dataset, 4)
    world.claim(agent, *tries[:3])
    world.ended(agent, tries[0])
    world.ended(agent, tries[1], result="error")
    (second,) = world.deal(dataset, 1, task="b")
    world.claim(agent, second)
    world.ended(agent, second)
    world.control(dataset).suspend_jobs(5, 6)
    world.control(dataset).cancel_jobs(7, 7)
    return dataset


STATES = {
    "ok": [(0, 0)], "failed": [(1, 1)], "processing": [(2, 2)], "queued": [(3, 3)], "waiting": [(4, 4)], "suspended": [(5, 5), (6, 6)],
    "cancelled": [(7, 7)], "unreleased": [(8, 9)],
}  # fmt: skip


def test_jobs_show_their_derived_states_and_ranges_of_jobs_that_are_no_rows(world, mixed):
    assert jobs_of(world, mixed) == sorted((*span, state) for state, spans in STATES.items() for span in spans)


@pytest.mark.parametrize("state", STATES)
def test_jobs_are_filtered_by_state(world, mixed, state):
    assert jobs_of(world, mixed, state=state) == [(*span, state) for span in STATES[state]]


def test_jobs_are_filtered_by_site_task_and_limit(world, mixed):
    graph = world.definitions.graph(mixed)
    assert [row[0] for row in jobs_of(world, mixed, site="local")] == [0, 2, 3]
    assert jobs_of(world, mixed, site="elsewhere") == []
    assert jobs_of(world, mixed, 1, 2, task=graph.by_name("b")) == [(1, 1, "waiting"), (2, 2, "waiting")]
    assert jobs_of(world, mixed, limit=3) == jobs_of(world, mixed)[:3]
    assert jobs_of(world, mixed, 2, 6, limit=2) == [(2, 2, "processing"), (3, 3, "queued")]


def test_ten_million_unreleased_jobs_are_one_line(world):
    dataset = world.submit(10_000_000)
    world.control(dataset).cancel_jobs(5_000_000, 5_999_999)
    assert jobs_of(world, dataset) == [(0, 4_999_999, "unreleased"), (5_000_000, 5_999_999, "cancelled"), (6_000_000, 9_999_999, "unreleased")]


@pytest.mark.parametrize("state", [state.name.lower() for state in Task])
def test_tasks_are_filtered_by_state(world, mixed, state):
    graph = world.definitions.graph(mixed)
    everything = views_jobs.tasks(world.db, graph, 0, 9)
    assert len(everything) == 12
    assert views_jobs.tasks(world.db, graph, 0, 9, state=state) == [row for row in everything if row.state == state]


def test_a_task_shows_its_accepted_attempt_even_when_a_later_one_ended_otherwise(world):
    dataset = world.submit(1)
    agent = world.agent()
    world.release(dataset)
    (first,) = world.deal(dataset)
    world.claim(agent, first)
    world.ended(agent, first)
    graph = world.definitions.graph(dataset)
    (row,) = views_jobs.tasks(world.db, graph, 0, 0)
    assert (row.attempt, row.host, row.site, row.exit, row.wall, row.tries) == (first.key, "node-1", "local", 0, 2.2, 1)
    (attempt,) = views_jobs.attempts(world.db, row.id)
    assert (attempt.state, attempt.running, attempt.since, attempt.agent) == ("ok", 2.0, None, agent.name)


def test_definitions_count_by_site_and_state(world, mixed):
    first, second = views_jobs.definition_states(world.db, world.definitions.graph(mixed))
    assert first.states == {"ok": 1, "failed": 1, "processing": 1, "queued": 1, "waiting": 1, "suspended": 1}
    assert first.sites == {"local": {"ok": 1, "processing": 1, "queued": 1}}
    assert second.after == ("a",)
    assert first.median == 2.2


def test_orders_are_kept_with_who_and_when(world, mixed):
    assert [row.what for row in views_jobs.commands(world.db, mixed)] == ["submit", "suspend", "cancel"]


# -- results ------------------------------------------------------------------------------------------------------


def test_statistics_have_sample_deviation_and_follow_a_reset(world):
    dataset = world.submit(3, *CHAIN)
    agent = world.agent()
    world.release(dataset)
    tries = world.deal(dataset)
    world.claim(agent, *tries)
    for value, attempt in enumerate(tries):
        world.ended(agent, attempt, stats={"x": value})
    graph = world.definitions.graph(dataset)
    (stat,) = views_results.statistics(world.db, graph)
    assert (stat.task, stat.name, stat.n, stat.sum, stat.mean, stat.deviation, stat.min, stat.max) == ("a", "x", 3, 3, 1, 1, 0, 2)
    world.control(dataset).reset_jobs(2, 2)
    (stat,) = views_results.statistics(world.db, graph)
    assert (stat.n, stat.max, stat.mean) == (2, 1, 0.5)
    assert views_results.statistics(world.db, graph, task=graph.by_name("b")) == []
    usage = {row.name: row for row in views_stats.stats(world.db, graph, by="dataset")}
    assert usage["wall"].mean == pytest.approx(2.2)
    assert usage["cpu"].task is None


def test_outputs_have_paths_and_states(world):
    dataset = world.submit(2, *FINAL)
    agent = world.agent()
    world.release(dataset)
    tries = world.deal(dataset)
    world.claim(agent, *tries)
    world.ended(agent, *tries)
    graph = world.definitions.graph(dataset)

    def read(**filters):
        return list(views_results.outputs(world.db, graph, first=-10, last=1, **filters))

    assert read() == []  # a.txt is read by b and not kept
    assert [row.state for row in read(every=True)] == ["produced", "produced"]
    second = world.deal(dataset)
    world.claim(agent, *second)
    world.ended(agent, *second)
    assert [(row.task, row.state) for row in read(missing=True)] == [("b", "produced"), ("b", "produced")]
    world.run(dataset, agent)
    assert read(missing=True) == []
    paths = [row.path for row in read()]
    assert paths[0].endswith("outputs/d/final/000000/sum.txt")
    assert paths[1].endswith("outputs/d/000000/b.txt")
    assert all(row.state == "home" for row in read())


# -- the price of looking -----------------------------------------------------------------------------------------

BIG = ("task", "attempt", "file", "error", "job_group", "job_list", "replica", "card")


def test_no_query_of_views_control_or_ingest_scans_a_big_table(world, tmp_path):
    seen: set[str] = set()
    world.db.set_trace_callback(seen.add)
    dataset = world.submit(6, *GROUPED, name="x")
    agent = world.agent()
    world.release(dataset, 4)
    tries = world.deal(dataset, per_card=2)
    world.claim(agent, *tries)
    world.ended(agent, tries[0], stats={"s": 1})
    world.ended(agent, tries[1], result="error")
    world.control(dataset).suspend_jobs(0, 3)
    world.control(dataset).resume_jobs(0, 3)
    world.control(dataset).cancel_jobs(5, 5)
    world.control(dataset).prioritise_jobs(0, 4, 2)
    world.control(dataset).suspend()
    world.control(dataset).resume()
    world.run(dataset, agent, stats={"s": 2})
    world.control(dataset).reset_jobs(0, 5)
    world.run(dataset, agent, stats={"s": 2})
    with world.ledger.write():
        sweep(world.db, world.definitions)
    graph = world.definitions.graph(dataset)
    views.datasets(world.db, category="", site="local", ended=5)
    views.find_dataset(world.db, "x")
    views.sites(world.db)
    views.engine(world.db)
    views.last_errors(world.db, [dataset])
    for state in (None, *views_jobs.JOB_STATES):
        for definition in (None, graph.tasks[0]):
            list(views_jobs.jobs(world.db, graph, 0, 5, state=state, site="local", task=definition, limit=5))
    for state in (None, *(one.name.lower() for one in Task)):
        for row in views_jobs.tasks(world.db, graph, 0, 5, state=state, site="local", task=graph.tasks[0]):
            views_jobs.attempts(world.db, row.id)
        views_jobs.tasks(world.db, graph, -5, 5, state=state)
    views_jobs.definition_states(world.db, graph)
    views_jobs.unmade_finals(world.db, graph)
    views_jobs.backing_off(world.db, graph, graph.tasks[0].id, 1, world.now)
    views_jobs.commands(world.db, dataset)
    views_results.statistics(world.db, graph)
    for by in views_stats.GROUPS:
        views_stats.stats(world.db, graph, by=by, task=graph.tasks[0])
    views_stats.histogram(world.db, graph, "cpu", 0, 1)
    views_work.progress(world.db, one(world, dataset), world.now)
    views_work.work(world.db, dataset)
    views_work.course(world.db, site="local", now=world.now)
    views_work.course(world.db, dataset=dataset, now=world.now)
    list(views_results.outputs(world.db, graph, first=0, last=5, task=graph.tasks[0], site="local", missing=True, limit=5))
    read_snapshot(world.db, world.definitions, [("local", {}, PilotSpec())], world.now)
    world.db.set_trace_callback(None)
    assert len(seen) > 100
    scans = []
    for query in sorted(seen):
        if not re.match(r"(SELECT|UPDATE|DELETE|INSERT)", query):
            continue
        for *_, detail in world.db.execute("EXPLAIN QUERY PLAN " + query).fetchall():
            match = re.match(r"SCAN (?:TABLE )?(\w+)(?: AS (\w+))?", detail)
            if match and _table(query, match[1]) in BIG:
                scans.append((detail, query))
    assert scans == []


def _table(query: str, alias: str) -> str:
    """The table that a plan's alias stands for in this query."""
    found = re.search(rf"\b(?:FROM|JOIN|UPDATE)\s+(\w+)\s+(?:AS\s+)?{alias}\b", query)
    return found[1] if found else alias

"""The planner on snapshots of any shape: it never promises what is not there, and leaves nothing undone that there is room for."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icp.model.need import Need
from icp.model.plan import (
    AgentView,
    ClassView,
    DatasetView,
    Deal,
    DefView,
    PilotSpec,
    PilotView,
    Policy,
    Recall,
    Release,
    SiteView,
    Snapshot,
    Submit,
    Withdraw,
)
from icp.planner import (
    at_sites,
    explain,
    fits,
    fold_attributes,
    limit_reason,
    may_fit,
    plan,
    site_attributes,
    soon,
    within,
)
from icp.planner.avoiding import elsewhere, has_place
from icp.planner.fit import SUBMITS, may_ever, new_pilots
from icp.states import Task

LAWS = settings(deadline=None, max_examples=70)
GB = 10**9
NOW = 1000.0

ALWAYS = ((("CPU", "==", True),),)
NEEDS = st.builds(
    Need,
    any=st.sampled_from((ALWAYS, ((),), (), ((("GPU", "==", True),),), ((("os", "==", "el9"),), (("fast", ">=", 3),)))),
    cpus=st.sampled_from((1, 1, 2, 8)),
    memory=st.sampled_from((GB, 4 * GB, 64 * GB)),
    disk=st.sampled_from((GB, 100 * GB)),
    gpus=st.sampled_from((0, 0, 1)),
    time=st.sampled_from((600, 3600)),
    avoid=st.sampled_from(((), (), ("h1",), ("h1", "h2"))),
)
ATTRS = st.sampled_from(({}, {"GPU": True}, {"GPU": False}, {"os": "el9"}, {"CPU": False}, {"fast": 3}))
AGENTS = st.builds(
    AgentView,
    cpus=st.integers(1, 16), memory=st.sampled_from((2 * GB, 16 * GB, 256 * GB)), disk=st.sampled_from((2 * GB, 500 * GB)), gpus=st.integers(0, 2),
    attrs=ATTRS, left=st.sampled_from((None, None, 900.0, 5000.0)), suspect=st.booleans(), leaving=st.sampled_from((False, False, True)),
    host=st.sampled_from((None, "h1", "h2", "h3")),
)  # fmt: skip
PILOTS = st.sampled_from((
    PilotView(True), PilotView(True), PilotView(False), PilotView(False, starting=True), PilotView(True, waited=5000.0), PilotView(True, stopping=True),
    PilotView(True, never="ask for less"),
))  # fmt: skip
SPECS = st.builds(
    PilotSpec,
    cpus=st.sampled_from((None, 1, 8)), memory=st.sampled_from((None, 8 * GB)), gpus=st.sampled_from((None, 0, 1)), nodes=st.integers(1, 3),
    max=st.integers(0, 6), max_pending=st.integers(0, 3), walltime=st.sampled_from((None, 1800, 7200)), rate=st.sampled_from((3, 120)),
    direct=st.sampled_from((False, False, False, True)), one_host=st.booleans(),
)  # fmt: skip
POLICIES = st.builds(
    Policy, depth=st.sampled_from((1.0, 120.0, 3600.0)), card_seconds=st.sampled_from((1.0, 60.0)), card_tasks=st.integers(1, 50),
    queue_tasks=st.integers(1, 200), tick_tasks=st.integers(1, 200), release_jobs=st.integers(1, 100),
)  # fmt: skip


@st.composite
def sites(draw, number):
    return SiteView(
        id=number, name=f"s{number}", zone=draw(st.integers(1, 3)), attributes=draw(ATTRS), spec=draw(SPECS),
        agents=tuple(draw(st.lists(AGENTS, max_size=3))), pilots=tuple(draw(st.lists(PILOTS, max_size=4))),
        reachable=draw(st.sampled_from((True, True, True, False))), paused=draw(st.sampled_from((None, None, None, "work on the roof"))),
        hold=draw(st.sampled_from((0.0, 0.0, NOW + 50))), recent=draw(st.integers(0, 3)), node=draw(st.none() | AGENTS),
    )  # fmt: skip


@st.composite
def snapshots(draw, limits=False):
    there = tuple(draw(sites(number)) for number in range(1, draw(st.integers(0, 3)) + 1))
    needs = dict(enumerate(draw(st.lists(NEEDS, min_size=1, max_size=4)), 1))
    datasets, defs, classes = [], {}, {}
    for number in range(1, draw(st.integers(0, 3)) + 1):
        datasets.append(DatasetView(number, draw(st.integers(-2, 2)), draw(st.integers(0, 500))))
        for idx in range(draw(st.integers(1, 3))):
            one = 10 * number + idx
            defs[one] = DefView(
                one, number, idx, idx == 0, draw(st.sampled_from((None, 0.0, 0.01, 5.0, 60.0, 90000.0)))
            )
            for _ in range(draw(st.integers(0, 3))):
                state = draw(
                    st.sampled_from((Task.IDLE, Task.WAITING, Task.WAITING, Task.WAITING, Task.QUEUED, Task.PROCESSING))
                )
                site = draw(st.integers(1, 3)) if state in (Task.QUEUED, Task.PROCESSING) else 0
                # 0: a need that is to be rendered anew
                key = (number, one, draw(st.integers(0, len(needs))), draw(st.integers(0, 3)), site, int(state))
                classes[key] = draw(st.integers(1, 2000))
    if draw(st.booleans()):
        limit = st.sampled_from((None, None, 1, 5, 300))
        only = st.sampled_from((None, None, frozenset(("s1",)), frozenset(("s1", "s2")), frozenset()))
        datasets = [replace(one, max_running=draw(limit), sites=draw(only)) for one in datasets] if limits else datasets
    if draw(st.booleans()) and datasets:
        datasets.pop()  # suspended: its classes still take room
    return Snapshot(tuple(datasets), defs, needs, tuple(ClassView(*key, n) for key, n in classes.items()), there)


def asked(snapshot, action):
    """What a deal's tasks ask for there: where there is no other place, hosts are not avoided."""
    need = snapshot.needs[action.need]
    return replace(need, avoid=()) if action.anywhere else need


def usable(snapshot):
    return {site.id: site for site in snapshot.sites if site.reachable and site.paused is None}


@LAWS
@given(snapshots(), POLICIES)
def test_a_plan_stays_within_what_there_is(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    there = usable(snapshot)
    dealt, queued, pilots, released = Counter(), Counter(), Counter(), Counter()
    for action in actions:
        if isinstance(action, Deal):
            assert action.n >= 1 and 1 <= action.per_card <= policy.card_tasks
            assert may_fit(asked(snapshot, action), there[action.site])
            dealt[action.dataset, action.task_def, action.need, action.zone] += action.n
            queued[action.site] += action.n
            assert (action.cards is not None) == there[action.site].spec.direct
            if action.cards is not None:
                # each card is a batch job, within the same limits as pilots
                assert there[action.site].hold <= NOW and action.cards * action.per_card >= action.n > (action.cards - 1) * action.per_card
                pilots[action.site] += action.cards
        elif isinstance(action, Submit):
            site = there[action.site]
            assert not site.spec.direct
            assert action.n >= 1 and site.hold <= NOW
            pilots[action.site] += action.n
        elif isinstance(action, Withdraw):
            assert 1 <= action.n <= sum(one.pending and not one.stopping for site in snapshot.sites if site.id == action.site for one in site.pilots)
        elif isinstance(action, Recall):
            there_now = [one for one in snapshot.classes if one.state == Task.QUEUED and one.site == action.site and one.task_def == action.task_def]
            assert 1 <= action.n <= sum(one.n for one in there_now)
        else:
            assert action.jobs >= 1
            released[action.dataset] += action.jobs
    known = {one.id: one for one in snapshot.datasets}
    waiting = {
        (c.dataset, c.task_def, c.need, c.zone): c.n
        for c in snapshot.classes
        if c.state == Task.WAITING and c.dataset in known
    }
    for key, n in dealt.items():
        assert n <= waiting[key]
    for site, n in queued.items():
        assert n + sum(c.n for c in snapshot.classes if c.site == site and c.state == Task.QUEUED) <= policy.queue_tasks
    for site, n in pilots.items():
        assert len(there[site].pilots) + n <= there[site].spec.max
        assert sum(one.pending for one in there[site].pilots) + n <= there[site].spec.max_pending
        assert there[site].recent + n <= there[site].spec.rate and n <= SUBMITS
    for dataset, n in released.items():
        assert n <= min(known[dataset].unreleased, policy.release_jobs)


@LAWS
@given(snapshots(), POLICIES, st.randoms())
def test_the_same_snapshot_gives_the_same_plan_in_whatever_order_its_classes_come(snapshot, policy, random):
    classes = list(snapshot.classes)
    random.shuffle(classes)
    turned = Snapshot(snapshot.datasets, snapshot.defs, snapshot.needs, tuple(classes), snapshot.sites)
    assert plan(snapshot, policy, NOW) == plan(snapshot, policy, NOW) == plan(turned, policy, NOW)


def seconds(snapshot, one):
    known = snapshot.defs[one.task_def].seconds
    return 60.0 if known is None else max(known, 0.0005)


def rooms(snapshot, policy, actions):
    """What each usable site could still take behind this plan: (seconds of one core, attempts)."""
    left = {}
    submitted = {one.site: one.n for one in actions if isinstance(one, Submit)}
    for site in usable(snapshot).values():
        coming = sum(one.coming for one in site.pilots) + submitted.get(site.id, 0)
        node = site.spec.cpus or (site.node.cpus if site.node else 1)
        cores = 0 if site.spec.direct else sum(one.cpus for one in site.agents if one.takes) + coming * site.spec.nodes * node
        left[site.id] = [cores * policy.depth, policy.queue_tasks]
    queued = [(c.site, c, c.n) for c in snapshot.classes if c.state == Task.QUEUED]
    dealt = [(a.site, a, a.n) for a in actions if isinstance(a, Deal)]
    for taken in (queued, dealt):
        for site, one, n in taken:
            if site in left:
                left[site][0] -= n * seconds(snapshot, one) * (snapshot.needs[one.need].cpus if one.need else 1)
                left[site][1] -= n
        if taken is queued:
            for one in left.values():
                one[1] = min(one[1], policy.tick_tasks)
    return left


EIGHT = PilotSpec(cpus=8)


def waits_for(snapshot, one):
    """Sites of a class's own zone that will have a slot for it."""
    return [site for site in snapshot.sites if site.zone == one.zone and soon(snapshot.needs[one.need], site, NOW)]


@LAWS
@given(snapshots(), POLICIES)
def test_no_task_leaves_the_zone_of_its_inputs_while_that_has_room_for_it(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    left = rooms(snapshot, policy, actions)
    there = usable(snapshot)
    for action in actions:
        if isinstance(action, Deal) and action.zone not in (0, there[action.site].zone):
            need = snapshot.needs[action.need]
            cost = need.cpus * (seconds_of(snapshot, action))
            for site in there.values():
                if site.zone == action.zone and may_fit(need, site) and (not need.avoid or has_place(need, site, NOW, policy.pending)):
                    assert left[site.id][0] < cost or left[site.id][1] <= 0


def seconds_of(snapshot, action):
    known = snapshot.defs[action.task_def].seconds
    return 60.0 if known is None else max(known, 0.0005)


def zoned(n, spec=EIGHT, zone=1, seconds=10.0, **near):
    """``n`` tasks whose inputs are in zone 1, where a site is as told; another site is idle in zone 2."""
    node = AgentView(cpus=8, memory=64 * GB, disk=500 * GB, gpus=0, attrs={}, left=None)
    here = SiteView(id=1, name="near", zone=zone, spec=spec, **{"attributes": {}, "agents": (node,), "pilots": (PilotView(False),), **near})
    far = SiteView(id=2, name="far", zone=2, attributes={}, spec=EIGHT, agents=(node,), pilots=(PilotView(False),))
    return Snapshot(
        (DatasetView(1, 0, 0),), {10: DefView(10, 1, 1, False, seconds)}, {1: Need(memory=GB, disk=GB)},
        (ClassView(1, 10, 1, 1, 0, int(Task.WAITING), n),), (here, far),
    )  # fmt: skip


def where(snapshot):
    dealt = Counter()
    for action in plan(snapshot, Policy(), NOW):
        if isinstance(action, Deal):
            dealt[action.site] += action.n
    return dealt


@LAWS
@given(snapshots(limits=True), POLICIES)
def test_what_failed_on_a_host_goes_there_again_only_where_there_is_no_other_place(snapshot, policy):
    known = {one.id: one for one in snapshot.datasets}
    dealt = Counter()
    for action in plan(snapshot, policy, NOW):
        if isinstance(action, Deal):
            dealt[action.dataset, action.task_def, action.need, action.zone] += action.n
            need, site = snapshot.needs[action.need], usable(snapshot)[action.site]
            asking = [known.get(one.dataset) for one in snapshot.classes if one.need == action.need]
            alone = any(not elsewhere(need, snapshot.sites, NOW, policy.pending, one) for one in asking)
            assert action.anywhere == (alone and bool(need.avoid))
            assert may_fit(replace(need, avoid=()) if alone else need, site)


def test_what_its_zone_begins_soon_stays_and_what_it_cannot_goes():
    # 8 slots: 120 s of work queue there, and 600 s of it wait for them
    assert where(zoned(500)) == {1: 96}
    assert where(zoned(5000)) == {1: 96, 2: 96}


def test_a_pilot_that_is_to_come_is_waited_for():
    spec = PilotSpec(cpus=8, max=2, max_pending=1)
    assert where(zoned(500, spec=spec, agents=(), pilots=(PilotView(True),))) == {1: 96}
    assert where(zoned(50, spec=spec, agents=(), pilots=(), busy=True)) == {}


def test_nothing_waits_for_a_zone_that_cannot():
    assert sum(where(zoned(50, zone=3)).values()) == 50
    assert where(zoned(50, reachable=False)) == {2: 50}
    assert where(zoned(50, paused="full")) == {2: 50}
    assert where(zoned(50, spec=PilotSpec(cpus=8, max=0), agents=(), pilots=())) == {2: 50}
    assert where(zoned(50, agents=(), pilots=(), hold=NOW + 50, spec=PilotSpec(cpus=8, memory=GB // 2))) == {2: 50}
    assert where(zoned(50, attributes={"CPU": False})) == {2: 50}


@LAWS
@given(snapshots(), POLICIES)
def test_everything_that_fits_where_there_is_room_is_dealt(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    dealt = Counter()
    for action in actions:
        if isinstance(action, Deal):
            dealt[action.dataset, action.task_def, action.need, action.zone] += action.n
    left = rooms(snapshot, policy, actions)
    active = {one.id for one in snapshot.datasets}
    for one in snapshot.classes:
        if one.state != Task.WAITING or not one.need or one.dataset not in active:
            continue
        if dealt[one.dataset, one.task_def, one.need, one.zone] < one.n:
            cost = seconds(snapshot, one) * snapshot.needs[one.need].cpus
            for site in usable(snapshot).values():
                room, places = left[site.id]
                if one.zone not in (0, site.zone) and waits_for(snapshot, one):
                    continue  # its own zone will begin it soon
                if snapshot.needs[one.need].avoid and not has_place(snapshot.needs[one.need], site, NOW, policy.pending):
                    continue  # it failed there
                assert not may_fit(snapshot.needs[one.need], site) or room < cost or places <= 0


@LAWS
@given(snapshots(), POLICIES)
def test_a_lower_priority_gets_nothing_where_a_higher_one_still_waits(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    priority = {one.id: one.priority for one in snapshot.datasets}
    dealt = Counter()
    for action in actions:
        if isinstance(action, Deal):
            dealt[action.dataset, action.task_def, action.need, action.zone] += action.n
    starved = [
        one for one in snapshot.classes
        if one.state == Task.WAITING and one.need and one.dataset in priority and dealt[one.dataset, one.task_def, one.need, one.zone] < one.n
    ]  # fmt: skip
    for action in actions:
        if isinstance(action, Deal):
            site = usable(snapshot)[action.site]
            for one in starved:
                need = snapshot.needs[one.need]
                able = may_fit(need, site) and (not need.avoid or has_place(need, site, NOW, policy.pending))
                if one.zone not in (0, site.zone) and waits_for(snapshot, one):
                    continue  # its own zone will begin it soon
                assert priority[one.dataset] <= priority[action.dataset] or not able


@LAWS
@given(snapshots(), POLICIES)
def test_jobs_become_rows_only_while_there_is_room_for_them(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    left = rooms(snapshot, policy, actions)
    releases = [action for action in actions if isinstance(action, Release)]
    if releases:
        may_come = any(new_pilots(site, NOW) for site in usable(snapshot).values())
        assert (may_come or any(room > 0 for room, _ in left.values())) and any(places > 0 for _, places in left.values())
    order = {one.id: (-one.priority, one.id) for one in snapshot.datasets}
    assert [order[one.dataset] for one in releases] == sorted(order[one.dataset] for one in releases)


def wants(snapshot):
    """Needs of work that is not at an agent yet; jobs that are no rows yet will ask for what the roots of their dataset ask for."""
    active = {one.id for one in snapshot.datasets}
    more = {one.id for one in snapshot.datasets if one.unreleased > 0}
    return {
        one.need for one in snapshot.classes
        if one.need and (
            one.state == Task.QUEUED
            or (one.state in (Task.WAITING, Task.PROCESSING) and one.dataset in active)
            or (snapshot.defs[one.task_def].root and one.dataset in more)
        )
    }  # fmt: skip


@LAWS
@given(snapshots(), POLICIES)
def test_pilots_are_asked_for_only_where_work_waits_that_they_could_do(snapshot, policy):
    for action in plan(snapshot, policy, NOW):
        if isinstance(action, Submit):
            site = usable(snapshot)[action.site]
            assert any(may_ever(snapshot.needs[need], site) for need in wants(snapshot))


@LAWS
@given(snapshots(), POLICIES, st.integers(1, 500), st.integers(0, 50), st.integers(1, 4))
def test_more_work_never_asks_for_fewer_pilots_and_withdraws_no_more(snapshot, policy, n, which, need):
    active = [one for one in snapshot.defs.values() if one.dataset in {other.id for other in snapshot.datasets}]
    if not active or need not in snapshot.needs:
        return
    more = ClassView(active[which % len(active)].dataset, active[which % len(active)].id, need, 0, 0, int(Task.WAITING), n)
    larger = Snapshot(snapshot.datasets, snapshot.defs, snapshot.needs, (*snapshot.classes, more), snapshot.sites)
    before, after = (Counter({one.site: one.n for one in plan(some, policy, NOW) if isinstance(one, Submit)}) for some in (snapshot, larger))
    assert before <= after
    # of work that is to come nobody knew what it asks for, and now it is known: then pilots may go
    if not any(one.unreleased for one in snapshot.datasets):
        before, after = (Counter({one.site: one.n for one in plan(some, policy, NOW) if isinstance(one, Withdraw)}) for some in (snapshot, larger))
        assert after <= before


@LAWS
@given(snapshots(), POLICIES)
def test_no_pilot_is_submitted_and_withdrawn_at_once_and_the_plan_after_it_withdraws_none_of_the_new(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    submitted = Counter({one.site: one.n for one in actions if isinstance(one, Submit)})
    withdrawn = Counter({one.site: one.n for one in actions if isinstance(one, Withdraw)})
    assert not submitted.keys() & withdrawn.keys()
    if any(isinstance(one, Deal) for one in actions):
        return
    sites_then = tuple(
        replace(site, pilots=(*site.pilots, *[PilotView(True)] * submitted[site.id]), recent=site.recent + submitted[site.id])
        for site in snapshot.sites
    )
    then = plan(replace(snapshot, sites=sites_then), policy, NOW)
    assert not submitted.keys() & {one.site for one in then if isinstance(one, Withdraw)}


@LAWS
@given(snapshots(), POLICIES)
def test_work_that_fits_an_open_site_gets_a_pilot_or_a_reason(snapshot, policy):
    # at a site without pilots each card that is dealt is a batch job
    submitted = {one.site for one in plan(snapshot, policy, NOW) if isinstance(one, Submit) or (isinstance(one, Deal) and one.cards)}
    active = {one.id for one in snapshot.datasets}
    for one in snapshot.classes:
        if one.state == Task.WAITING and one.need and one.dataset in active:
            able = [site for site in usable(snapshot).values() if may_ever(snapshot.needs[one.need], site)]
            if able and not submitted and not any(agent.takes for site in able for agent in site.agents):
                said = [reason.sentence for reason in explain(snapshot.needs[one.need], tuple(able), NOW)]
                assert all("next tick" not in text for text in said) or any(pilot.coming for site in able for pilot in site.pilots), said


NEED = Need()


def one_task(n=1, seconds=None, need=NEED, site=0, state=Task.WAITING, **more):
    return Snapshot(
        (DatasetView(1, 0, 0),), {1: DefView(1, 1, 0, True, seconds)}, {1: need}, (ClassView(1, 1, 1, 0, site, int(state), n),), **more
    )  # fmt: skip


def place(number, *pilots, agents=(), **spec):
    given_ = {"cpus": 8, "memory": 64 * GB, "disk": 100 * GB, "gpus": 0, "max": 20, "max_pending": 20, **spec}
    return SiteView(id=number, name=f"s{number}", zone=number, attributes={}, spec=PilotSpec(**given_), pilots=pilots, agents=agents)


NODE = AgentView(cpus=8, memory=64 * GB, disk=100 * GB, gpus=0, attrs={}, left=None)


def submits(snapshot):
    return {one.site: one.n for one in plan(snapshot, Policy(), NOW) if isinstance(one, Submit)}


def failed_on(*hosts, agents=(), sites=(), **spec):
    """One task that failed on these hosts, a site with these agents as far as its pilots go, and others."""
    site = place(1, *[PilotView(False)] * len(agents), agents=tuple(replace(NODE, host=one) for one in agents), **spec)
    return one_task(need=Need(memory=GB, disk=GB, avoid=hosts), sites=(site, *sites))


@pytest.mark.parametrize(
    ("snapshot", "dealt", "submitted"),
    [
        # another node is there
        (failed_on("h1", agents=("h1", "h2"), max=2), (1, False), {}),
        # none is, and a pilot may come to one
        (failed_on("h1", agents=("h1",), max=2), (1, False), {1: 1}),
        # none is, and none will be
        (failed_on("h1", agents=("h1",), max=1), (1, True), {}),
        (failed_on("h1", "h2", agents=("h1", "h2"), max=2), (1, True), {}),
        # each pilot of it runs on the one host that it has
        (replace(failed_on("h1"), sites=(replace(place(1, one_host=True), node=replace(NODE, host="h1")),)), (1, True), {1: 1}),
        # a site without pilots has one host too, where there is no batch system
        (replace(failed_on("h1"), sites=(
            replace(place(1, one_host=True, direct=True), node=replace(NODE, host="h1")), place(2, PilotView(False), agents=(replace(NODE, host="h9"),), max=1),
        )), (2, False), {}),
        # another site has room
        (failed_on("h1", agents=("h1",), max=1, sites=(place(2, PilotView(False), agents=(replace(NODE, host="h9"),), max=1),)), (2, False), {}),
        (failed_on("h1", agents=("h1",), max=1, sites=(place(2, PilotView(True, waited=5000.0), max=1),)), (1, True), {}),
    ],
)
def test_a_task_that_failed_on_a_host_is_dealt_to_another_one_if_there_is_any(snapshot, dealt, submitted):
    (deal,) = [one for one in plan(snapshot, Policy(), NOW) if isinstance(one, Deal)]
    assert (deal.site, deal.anywhere) == dealt and submits(snapshot) == submitted


@pytest.mark.parametrize(
    ("snapshot", "asked"),
    [
        (one_task(sites=(place(1), place(2), place(3))), {1: 1}),
        (one_task(3, seconds=36000.0, sites=(place(1),)), {1: 1}),
        (one_task(17, seconds=36000.0, sites=(place(1),)), {1: 3}),
        (one_task(400, seconds=36000.0, sites=(place(1),)), {1: SUBMITS}),
        (one_task(32, seconds=36000.0, sites=(place(1), place(2))), {1: 2, 2: 2}),
        (one_task(600, seconds=0.1, sites=(place(1),)), {1: 1}),
        (one_task(8, seconds=36000.0, sites=(place(1, PilotView(True)),)), {}),
        (one_task(9, seconds=36000.0, sites=(place(1, PilotView(True)),)), {1: 1}),
        (one_task(8, sites=(place(1, PilotView(False), agents=(NODE,)),)), {}),
        (one_task(need=Need(time=7200), sites=(place(1, walltime=3600),)), {}),
        (one_task(need=Need(time=3600), sites=(place(1, walltime=3600),)), {}),
        (one_task(need=Need(time=3600), sites=(place(1, walltime=7200),)), {1: 1}),
        (one_task(need=Need(memory=65 * GB), sites=(place(1),)), {}),
        (one_task(need=Need(gpus=1), sites=(place(1), place(2, gpus=1))), {2: 1}),
        (one_task(sites=(place(1, PilotView(True)), place(2))), {}),
        (one_task(sites=(place(1, PilotView(True, waited=5000.0)), place(2))), {2: 1}),
        (one_task(site=1, state=Task.QUEUED, sites=(place(1, PilotView(True)), place(2))), {}),
        (one_task(site=1, state=Task.QUEUED, sites=(place(1, PilotView(True, waited=5000.0)), place(2))), {2: 1}),
        (one_task(site=1, state=Task.QUEUED, sites=(place(1, PilotView(True, waited=5000.0)), place(2, PilotView(True)))), {}),
        (one_task(site=1, state=Task.QUEUED, sites=(place(1, PilotView(True, waited=5000.0)),)), {}),
        (one_task(8, seconds=9999.0, site=1, state=Task.PROCESSING, sites=(place(1, PilotView(False), agents=(NODE,)),)), {}),
    ],
)
def test_as_many_pilots_as_the_work_keeps_busy(snapshot, asked):
    assert submits(snapshot) == asked


def test_work_that_waits_for_a_pilot_that_does_not_start_is_called_back_when_others_are_free():
    snapshot = one_task(5, site=1, state=Task.QUEUED, sites=(place(1, PilotView(True, waited=5000.0)), place(2, PilotView(False), agents=(NODE,))))
    assert [one for one in plan(snapshot, Policy(), NOW) if not isinstance(one, Withdraw)] == [Recall(1, 1, 1, 5)]


def cards(snapshot):
    return [(one.site, one.cards, one.n, one.per_card) for one in plan(snapshot, Policy(), NOW) if isinstance(one, Deal)]


@pytest.mark.parametrize(
    ("snapshot", "dealt"),
    [
        (one_task(3, sites=(place(1, direct=True),)), [(1, 3, 3, 1)]),
        (one_task(300, sites=(place(1, direct=True),)), [(1, SUBMITS, SUBMITS, 1)]),
        (one_task(300, sites=(place(1, *[PilotView(False)] * 16, direct=True),)), [(1, 4, 4, 1)]),
        (one_task(300, sites=(place(1, *[PilotView(True)] * 20, direct=True),)), []),
        (one_task(300, seconds=600.0, sites=(place(1, max_pending=3, direct=True),)), [(1, 3, 6, 2)]),
        (one_task(120, seconds=10.0, sites=(place(1, direct=True),)), [(1, 1, 120, 120)]),
        (one_task(130, seconds=10.0, sites=(place(1, direct=True),)), [(1, 2, 130, 65)]),
        (one_task(5, seconds=90000.0, need=Need(cpus=64, gpus=8), sites=(place(1, cpus=None, gpus=None, direct=True),)), [(1, 5, 5, 1)]),
        (one_task(5, need=Need(cpus=9), sites=(place(1, direct=True),)), []),
        (one_task(5, need=Need(time=3600), sites=(place(1, walltime=3600, direct=True),)), []),
        # a gpu is there because it was asked for
        (one_task(need=Need(any=((("HasGPU", "==", True),),), gpus=1), sites=(replace(place(1, gpus=None, direct=True), node=NODE),)), [(1, 1, 1, 1)]),
        (one_task(need=Need(any=((("os", "==", "el9"),),)), sites=(replace(place(1, direct=True), node=NODE),)), []),
        # agents that are there come first, and what they cannot do soon goes there
        (one_task(4, seconds=10.0, sites=(place(1, direct=True), place(2, PilotView(False), agents=(NODE,)))), [(2, None, 4, 1)]),
    ],
)
def test_where_there_are_no_pilots_as_many_cards_as_batch_jobs_are_allowed(snapshot, dealt):
    assert cards(snapshot) == dealt
    assert not [one for one in plan(snapshot, Policy(), NOW) if isinstance(one, Submit | Withdraw)]


def withdrawn(snapshot):
    return {one.site: one.n for one in plan(snapshot, Policy(), NOW) if isinstance(one, Withdraw)}


def test_pilots_without_work_are_withdrawn_and_those_that_some_could_use_stay():
    pending = (PilotView(True),) * 6
    assert withdrawn(one_task(state=Task.OK, sites=(place(1, *pending),))) == {1: 6}
    assert withdrawn(one_task(8, sites=(place(1, *pending),))) == {1: 4}
    assert withdrawn(one_task(24, seconds=9999.0, sites=(place(1, *pending),))) == {}
    assert withdrawn(one_task(24, seconds=9999.0, state=Task.IDLE, sites=(place(1, *pending),))) == {}
    busy = one_task(8, site=1, state=Task.PROCESSING, sites=(place(1, *pending, PilotView(False), agents=(NODE,)),))
    assert withdrawn(busy) == {1: 6}


@LAWS
@given(NEEDS, ATTRS, AGENTS)
def test_folding_a_sites_attributes_changes_no_answer(need, attributes, agent):
    site = SiteView(id=1, name="s", zone=1, attributes=attributes, spec=PilotSpec())
    folded = replace(need, any=fold_attributes(need.any, site_attributes(site)))
    assert fits(folded, site, agent) == fits(need, site, agent)


@LAWS
@given(snapshots(), POLICIES)
def test_explain_has_one_reason_for_each_site_and_agrees_with_the_plan(snapshot, policy):
    dealt = {(action.need, action.site) for action in plan(snapshot, policy, NOW) if isinstance(action, Deal)}
    for number, need in snapshot.needs.items():
        reasons = explain(need, snapshot.sites, NOW)
        assert len(reasons) == len(snapshot.sites)
        for site, reason in zip(snapshot.sites, reasons, strict=True):
            assert f"site {site.name}" in reason.sentence
            never = "never match" in reason.sentence or "large enough" in reason.sentence
            assert never <= (not may_fit(need, site))
            if never or "paused" in reason.sentence or "not answer" in reason.sentence:
                assert (number, site.id) not in dealt


# -- what a person allows a dataset --------------------------------------------------------------------------------


@LAWS
@given(snapshots(limits=True), POLICIES)
def test_no_more_of_a_dataset_goes_to_sites_at_once_than_it_may_and_only_to_those_that_it_may_use(snapshot, policy):
    names = {site.id: site.name for site in snapshot.sites}
    datasets = {one.id: one for one in snapshot.datasets}
    dealt, released = Counter(), Counter()
    for action in plan(snapshot, policy, NOW):
        if isinstance(action, Deal):
            one = datasets[action.dataset]
            assert one.sites is None or names[action.site] in one.sites
            assert one.max_running is None or action.per_card == 1, "those that wait in a card would count as well"
            dealt[action.dataset] += action.n
        elif isinstance(action, Release):
            released[action.dataset] += action.jobs
    for one in snapshot.datasets:
        if one.max_running is not None:
            there = at_sites(snapshot.classes, one.id)
            assert there + dealt[one.id] <= max(one.max_running, there)
            assert there + dealt[one.id] + released[one.id] <= max(one.max_running, there)


@LAWS
@given(snapshots(limits=True), POLICIES, st.randoms())
def test_limits_give_one_plan_in_whatever_order_classes_come(snapshot, policy, random):
    classes = list(snapshot.classes)
    random.shuffle(classes)
    assert plan(snapshot, policy, NOW) == plan(replace(snapshot, classes=tuple(classes)), policy, NOW)


@LAWS
@given(snapshots(), POLICIES)
def test_limits_that_are_not_reached_change_nothing(snapshot, policy):
    wide = replace(snapshot, datasets=tuple(replace(one, sites=frozenset(("s1", "s2", "s3"))) for one in snapshot.datasets))
    assert plan(wide, policy, NOW) == plan(snapshot, policy, NOW)
    assert within(snapshot) is snapshot


@LAWS
@given(snapshots(limits=True))
def test_what_is_said_to_be_in_the_way_is_what_is_in_the_way(snapshot):
    cut = within(snapshot)
    for one in snapshot.datasets:
        said = limit_reason(one, snapshot.classes)
        beyond = any(two.dataset == one.id and two.state == Task.WAITING and two.need for two in cut.classes)
        if said is not None:
            assert not beyond and one.max_running is not None and f"may run {one.max_running} at once" in said.sentence
        for need in set(snapshot.needs.values()):
            for site, reason in zip(snapshot.sites, explain(need, snapshot.sites, NOW, dataset=one), strict=True):
                assert ("is not one of those that the dataset may use" in reason.sentence) == (one.sites is not None and site.name not in one.sites)


def test_a_limited_dataset_asks_for_no_more_pilots_than_it_can_use_and_for_none_at_sites_that_it_may_not():
    def submits(**limits):
        sites_ = tuple(SiteView(id=n, name=f"s{n}", zone=n, attributes={}, spec=PilotSpec(cpus=1, max=50, max_pending=50)) for n in (1, 2))
        snapshot = Snapshot((DatasetView(1, 0, 1000, **limits),), {10: DefView(10, 1, 0, True, 600.0)}, {1: Need(memory=GB, disk=GB)},
                            (ClassView(1, 10, 1, 0, 0, int(Task.WAITING), 100),), sites_)  # fmt: skip
        return {one.site: one.n for one in plan(snapshot, Policy(), NOW) if isinstance(one, Submit)}

    assert submits() == {1: SUBMITS, 2: SUBMITS}
    assert sum(submits(max_running=3).values()) == 3
    assert submits(sites=frozenset(("s2",))) == {2: SUBMITS}
    assert submits(sites=frozenset()) == {}

"""The planner on snapshots of any shape: it never promises what is not there, and leaves nothing undone that there is room for."""

from collections import Counter

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
    Release,
    SiteView,
    Snapshot,
    Submit,
)
from icp.planner import explain, fits, fold_attributes, may_fit, plan, site_attributes, soon
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
)
ATTRS = st.sampled_from(({}, {"GPU": True}, {"GPU": False}, {"os": "el9"}, {"CPU": False}, {"fast": 3}))
AGENTS = st.builds(
    AgentView,
    cpus=st.integers(1, 16), memory=st.sampled_from((2 * GB, 16 * GB, 256 * GB)), disk=st.sampled_from((2 * GB, 500 * GB)), gpus=st.integers(0, 2),
    attrs=ATTRS, until=st.none(), suspect=st.booleans(),
)  # fmt: skip
SPECS = st.builds(
    PilotSpec,
    cpus=st.sampled_from((None, 1, 8)), memory=st.sampled_from((None, 8 * GB)), gpus=st.sampled_from((None, 0, 1)), nodes=st.integers(1, 3),
    max=st.integers(0, 4), max_pending=st.integers(0, 3),
)  # fmt: skip
POLICIES = st.builds(
    Policy, depth=st.sampled_from((1.0, 120.0, 3600.0)), card_seconds=st.sampled_from((1.0, 60.0)), card_tasks=st.integers(1, 50),
    queue_tasks=st.integers(1, 200), tick_tasks=st.integers(1, 200), release_jobs=st.integers(1, 100),
)  # fmt: skip


@st.composite
def sites(draw, number):
    return SiteView(
        id=number, name=f"s{number}", zone=draw(st.integers(1, 3)), attributes=draw(ATTRS), spec=draw(SPECS),
        agents=tuple(draw(st.lists(AGENTS, max_size=3))), pilots=tuple(PilotView(one) for one in draw(st.lists(st.booleans(), max_size=3))),
        reachable=draw(st.sampled_from((True, True, True, False))), paused=draw(st.sampled_from((None, None, None, "work on the roof"))),
        hold=draw(st.sampled_from((0.0, NOW + 50))), node=draw(st.none() | AGENTS),
    )  # fmt: skip


@st.composite
def snapshots(draw):
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
    if draw(st.booleans()) and datasets:
        datasets.pop()  # suspended: its classes still take room
    return Snapshot(tuple(datasets), defs, needs, tuple(ClassView(*key, n) for key, n in classes.items()), there)


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
            assert may_fit(snapshot.needs[action.need], there[action.site])
            dealt[action.dataset, action.task_def, action.need, action.zone] += action.n
            queued[action.site] += action.n
        elif isinstance(action, Submit):
            site = there[action.site]
            assert action.n >= 1 and site.hold <= NOW
            pilots[action.site] += action.n
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
    for site in usable(snapshot).values():
        pending = sum(one.pending for one in site.pilots) or int(not site.agents and min(site.spec.max, site.spec.max_pending) > 0)
        node = site.spec.cpus or (site.node.cpus if site.node else 1)
        cores = sum(one.cpus for one in site.agents if not one.suspect) + pending * site.spec.nodes * node
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
                if site.zone == action.zone and may_fit(need, site):
                    assert left[site.id][0] < cost or left[site.id][1] <= 0


def seconds_of(snapshot, action):
    known = snapshot.defs[action.task_def].seconds
    return 60.0 if known is None else max(known, 0.0005)


def zoned(n, spec=EIGHT, zone=1, seconds=10.0, **near):
    """``n`` tasks whose inputs are in zone 1, where a site is as told; another site is idle in zone 2."""
    node = AgentView(cpus=8, memory=64 * GB, disk=500 * GB, gpus=0, attrs={}, until=None)
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
                assert priority[one.dataset] <= priority[action.dataset] or not may_fit(snapshot.needs[one.need], site)


@LAWS
@given(snapshots(), POLICIES)
def test_jobs_become_rows_only_while_there_is_room_for_them(snapshot, policy):
    actions = plan(snapshot, policy, NOW)
    left = rooms(snapshot, policy, actions)
    releases = [action for action in actions if isinstance(action, Release)]
    if releases:
        assert any(room > 0 for room, _ in left.values()) and any(places > 0 for _, places in left.values())
    order = {one.id: (-one.priority, one.id) for one in snapshot.datasets}
    assert [order[one.dataset] for one in releases] == sorted(order[one.dataset] for one in releases)


@LAWS
@given(snapshots(), POLICIES)
def test_pilots_are_asked_for_only_where_work_waits_that_they_could_do(snapshot, policy):
    active = {one.id for one in snapshot.datasets}
    for action in plan(snapshot, policy, NOW):
        if isinstance(action, Submit):
            site = usable(snapshot)[action.site]
            assert any(
                (
                    one.state == Task.WAITING
                    and one.need
                    and one.dataset in active
                    and may_fit(snapshot.needs[one.need], site)
                )
                or (one.state == Task.QUEUED and one.site == site.id)
                for one in snapshot.classes
            )


@LAWS
@given(NEEDS, ATTRS, AGENTS)
def test_folding_a_sites_attributes_changes_no_answer(need, attributes, agent):
    site = SiteView(id=1, name="s", zone=1, attributes=attributes, spec=PilotSpec())
    folded = Need(
        fold_attributes(need.any, site_attributes(site)), need.cpus, need.memory, need.disk, need.gpus, need.time
    )
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

"""What `icp why` is told about each site, in words a person can act on."""

from dataclasses import replace

import pytest

from icp.model.need import Need
from icp.model.plan import AgentView, PilotSpec, PilotView, SiteView
from icp.planner import avoiding_reason, explain, fits, future_agent, may_fit, slots

GB = 10**9
NODE = AgentView(cpus=8, memory=16 * GB, disk=100 * GB, gpus=0, attrs={"os": "el9"}, left=None)
NOW = 1000.0


def site(**more):
    return SiteView(**{"id": 1, "name": "nsa", "zone": 1, "attributes": {}, "spec": PilotSpec(cpus=8), **more})


@pytest.mark.parametrize(
    ("there", "need", "words"),
    [
        ({"paused": "work on the roof"}, Need(), "paused: work on the roof"),
        ({"reachable": False}, Need(), "does not answer"),
        ({"reachable": False, "login": True}, Need(), "needs a person's login"),
        (
            {"attributes": {"os": "el7"}},
            Need(any=((("os", "==", "el9"),),)),
            "can never match the requirements (os == el9)",
        ),
        ({"attributes": {"CPU": False}}, Need(), "can never match the requirements (CPU == True)"),
        (
            {"agents": (NODE,), "spec": PilotSpec(cpus=8, memory=16 * GB)},
            Need(memory=64 * GB),
            "no node of site nsa is large enough",
        ),
        (
            {"spec": PilotSpec(cpus=8, memory=16 * GB), "node": replace(NODE, attrs={"GPU": False})},
            Need(any=((("GPU", "==", True),),)),
            "as its pilots found them, never match the requirements (GPU == True)",
        ),
        ({"lacks": "https://x/cvmfsexec"}, Need(), "submits no pilot before https://x/cvmfsexec is fetched to this machine"),
        ({"hold": NOW + 90}, Need(), "submits no pilot for another 90 s"),
        ({"pilots": (PilotView(True), PilotView(True))}, Need(), "has 2 pilots waiting to start"),
        ({}, Need(), "has no pilot, and gets none while other sites"),
        ({"spec": PilotSpec(cpus=8, max_pending=0)}, Need(), "gets no pilot: pilot.max_pending is 0"),
        ({"agents": (NODE,)}, Need(), "is busy with what came before"),
        ({"spec": PilotSpec(direct=True)}, Need(), "has no batch job for it, and gets none"),
        ({"spec": PilotSpec(direct=True, max_pending=1), "pilots": (PilotView(True, said="Priority"),)}, Need(),
         "1 batch job waiting to start (Priority), and pilot.max_pending is 1"),
        ({"spec": PilotSpec(direct=True, max=0)}, Need(), "has as many batch jobs as pilot.max allows (0)"),
        ({"spec": PilotSpec(direct=True), "hold": NOW + 9}, Need(), "submits no batch job for another 9 s: the last ones did not run what they were for"),
        ({"spec": PilotSpec(direct=True, memory=GB)}, Need(), "asks for 2000 MB of memory, and pilot.memory is 1000"),
        ({"spec": PilotSpec(direct=True, walltime=3600)}, Need(), "no batch job of site nsa is long enough: its batch jobs end after 3600 s"),
        ({"spec": PilotSpec(direct=True), "node": NODE}, Need(any=((("os", "==", "el8"),),)), "does not match the requirements (os == el8)"),
    ],
)
def test_the_first_thing_that_is_in_the_way_is_named(there, need, words):
    (reason,) = explain(need, (site(**there),), NOW)
    assert words in reason.sentence and "site nsa" in reason.sentence


def test_sizes_are_said_on_both_sides():
    (reason,) = explain(Need(memory=64 * GB), (site(agents=(NODE,), spec=PilotSpec(cpus=8, memory=16 * GB)),), NOW)
    assert "64000 MB" in reason.sentence and "16000 MB" in reason.sentence and reason.mend


def test_the_configuration_wins_over_what_an_agent_found():
    need = Need(any=((("os", "==", "el9"),),))
    assert fits(need, site(), NODE)
    assert not fits(need, site(attributes={"os": "el8"}), NODE)


def test_a_site_that_nobody_saw_inside_may_have_everything():
    unseen = site(spec=PilotSpec())
    assert future_agent(unseen) is None
    assert may_fit(Need(cpus=512, gpus=8, any=((("GPU", "==", True),),)), unseen) and slots(Need(), unseen) == 0


def test_slots_count_agents_that_talk_and_pilots_to_come():
    need = Need(cpus=2, memory=2 * GB)
    suspect = AgentView(8, 16 * GB, 100 * GB, 0, {}, None, suspect=True)
    assert slots(need, site(agents=(NODE, suspect))) == 4
    assert (
        slots(
            need,
            site(
                agents=(NODE,),
                pilots=(PilotView(True), PilotView(False)),
                spec=PilotSpec(cpus=8, memory=4 * GB, nodes=3),
                node=NODE,
            ),
        )
        == 4 + 3 * 2
    )


def test_where_it_failed_is_said_and_whether_there_is_another_place():
    need, node = Need(avoid=("w1",)), replace(NODE, host="w1")
    alone = (site(agents=(node,), spec=PilotSpec(cpus=8, max=0)),)
    assert avoiding_reason(need, alone, NOW, 900.0).sentence == "it failed on w1, and there is no other place: it is tried there again"
    (reason,) = explain(need, alone, NOW)
    assert "is busy with what came before" in reason.sentence
    other = site(id=2, name="nsb", agents=(NODE,), spec=PilotSpec(cpus=8, max=0))
    host = site(agents=(node,), node=node, spec=PilotSpec(cpus=8, max=0, one_host=True))
    assert avoiding_reason(need, (host, other), NOW, 900.0).sentence == "it failed on w1, and goes elsewhere as long as there is another place"
    first, second = explain(need, (host, other), NOW)
    assert first.sentence == "site nsa has no other node than those on which it failed (w1)" and "site nsb is busy" in second.sentence
    assert avoiding_reason(Need(), alone, NOW, 900.0) is None


@pytest.mark.parametrize(
    ("there", "plans", "words"),
    [
        ({}, {"submits": {1}}, "has no pilot yet: the next tick submits one, for this or"),
        ({}, {"submits": {1}, "deals": {1}}, "has no pilot yet: the next tick submits one, and sends some of it there"),
        ({"spec": PilotSpec(direct=True)}, {"deals": {1}}, "has no batch job yet: the next tick submits one, and sends some of it there"),
        ({"agents": (NODE,)}, {"deals": {1}}, "has room for it: the next tick sends some of it there"),
        ({"pilots": (PilotView(True, said="Priority"),)}, {"deals": {1}}, "has 1 pilot waiting to start (Priority): the next tick sends"),
        ({"pilots": (PilotView(False, starting=True),)}, {"deals": {1}}, "has a pilot that begins: the next tick sends"),
    ],
)
def test_what_the_next_tick_does_is_what_its_plan_says(there, plans, words):
    (reason,) = explain(Need(), (site(**there),), NOW, **plans)
    assert words in reason.sentence and not reason.never


def test_agents_that_cannot_run_it_are_not_busy():
    short = AgentView(8, 16 * GB, 100 * GB, 0, {}, left=60.0)
    (reason,) = explain(Need(time=600), (site(agents=(short,)),), NOW)
    assert reason.sentence == "site nsa has only pilots that are too small for it, or end too soon"

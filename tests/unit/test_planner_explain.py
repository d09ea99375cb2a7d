"""What `icp why` is told about each site, in words a person can act on."""

import pytest

from icp.model.need import Need
from icp.model.plan import AgentView, PilotSpec, PilotView, SiteView
from icp.planner import explain, fits, future_agent, may_fit, slots

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
        ({"hold": NOW + 90}, Need(), "submits no pilot for another 90 s"),
        ({"pilots": (PilotView(True), PilotView(True))}, Need(), "has 2 pilots waiting to start"),
        ({}, Need(), "has no pilot yet"),
        ({"agents": (NODE,)}, Need(), "is busy with what came before"),
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

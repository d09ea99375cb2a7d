"""Pilots of several nodes, with gpus, memory and names of the site's own, as each batch system beside SLURM is asked for them."""

from __future__ import annotations

import re

import pytest

from icp.backends.batch import system
from icp.errors import BadInput
from icp.model.batch import Wanted

WANTED = Wanted(
    "icp-0a1b2c3d-0123456789abcdef", "/data/icp/spool/pilots/0123456789abcdef", nodes=3, cpus=4, memory=8 * 2**30, gpus=2, walltime=5400,
    partition="long", account="physics",
)  # fmt: skip
ASKED = {
    # memory is counted for each slot, gpus for each node by most sites' consumables per host
    "sge": ["-pe smp 12", "-l mem_free=2048M", "-l gpu=2", "-q long", "-P physics"],
    "pbs": ["-l select=3:ncpus=4:mem=8192mb:ngpus=2", "-l place=scatter", "-q long", "-A physics"],
    "torque": ["-l nodes=3:ppn=4:gpus=2", "-l mem=24576mb", "-q long", "-A physics"],
    "lsf": ["-n 12", "rusage[mem=8192MB]", '-gpu "num=2"', "-q long", "-P physics"],
}
EACH = {"sge": "qrsh -inherit", "pbs": "pbsdsh -- /bin/sh", "torque": "pbsdsh -u /bin/sh", "lsf": "blaunch"}


def script(name: str, wanted: Wanted) -> str:
    captured = system(name).render(wanted)
    return "\n".join([*captured.files.values(), " ".join(captured.argv)])


@pytest.mark.parametrize("name", ASKED)
def test_several_nodes_with_gpus(name: str) -> None:
    text = re.sub(r"[ \t]+", " ", script(name, WANTED))
    for one in ASKED[name]:
        assert one in text, text
    assert EACH[name] in text
    assert "pilot.sh" in text


@pytest.mark.parametrize("name", ASKED)
def test_one_node_is_no_pilot_for_each_of_several(name: str) -> None:
    text = script(name, Wanted(WANTED.name, WANTED.folder, cpus=4, walltime=600))
    assert EACH[name] not in text
    assert "gpu" not in text


def test_condor_gives_one_machine_and_says_so() -> None:
    with pytest.raises(BadInput) as caught:
        system("condor").render(WANTED)
    said = " ".join([caught.value.message, *caught.value.mistakes, caught.value.hint or ""])
    assert "raise pilot.max instead" in said
    text = script("condor", Wanted(WANTED.name, WANTED.folder, cpus=4, memory=8 * 2**30, gpus=2, disk=10**9, walltime=600, account="physics"))
    for one in ("request_memory = 8192", "request_gpus = 2", "request_disk = 976563", "accounting_group = physics"):
        assert one in text


def test_names_that_a_survey_finds_are_the_ones_asked_for() -> None:
    options = {"pe": "threaded", "memory_resource": "h_vmem", "gpu_resource": "ngpus"}
    text = script("sge", Wanted(WANTED.name, WANTED.folder, cpus=4, memory=8 * 2**30, gpus=1, walltime=600, options=options))
    for one in ("-pe threaded 4", "-l h_vmem=2048M", "-l ngpus=1"):
        assert one in text

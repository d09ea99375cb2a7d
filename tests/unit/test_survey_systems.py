"""What the batch systems beside SLURM show of themselves: real answers of Grid Engine, HTCondor, OpenPBS and Torque's commands, and shapes of centres."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icp.backends.base import Result
from icp.backends.survey import Survey, grid_engine, lsf, pbs, read
from icp.backends.survey.batch import LOOKS, Account, Batch, Part, Partition
from icp.backends.survey.condor import slots
from icp.engine.proposal import Asked, choices, propose
from icp.errors import BadInput

GOLDEN = Path(__file__).parents[1] / "golden" / "survey"
GIB = 2**30


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


def survey(name: str) -> Survey:
    return read(Result(0, (GOLDEN / f"{name}.out").read_bytes(), b""))


def looked(scheduler: str, user: str = "alice", code: int = 0, **texts: str) -> Batch:
    (look,) = [one for one in LOOKS if one.scheduler == scheduler]
    return look.read({"id": Part(user), **{f"{scheduler}.{name}": Part(text, code) for name, text in texts.items()}})


def shapes(batch: Batch) -> list[tuple[Any, ...]]:
    return [(one.name, one.default, one.open, one.limit, one.nodes, one.cpus, one.largest, one.gpus) for one in batch.partitions]


def keys(of: Survey, **asked: Any) -> dict[str, Any]:
    return propose(of, Asked("x", "x", **asked)).keys


def refused(of: Survey, **asked: Any) -> str:
    with pytest.raises(BadInput) as caught:
        propose(of, Asked("x", "x", **asked))
    return f"{caught.value.message} {caught.value.hint}"


# --- Grid Engine


def test_grid_engine_shows_its_queues_to_whom_they_are_open() -> None:
    found = survey("nsc")
    assert (found.scheduler, found.batch.version, found.batch.trouble, found.batch.accounting) == ("sge", "8.1.9", "", True)
    assert shapes(found.batch) == [
        ("all.q", True, True, None, 1, 2, 2, 0),
        # alice is in by her group; s_rt, ten minutes before h_rt, is what ends a job
        ("long.q", False, True, 95 * 3600 + 3000, 1, 2, 2, 0),
        # no environment of this one gives several slots of one node
        ("gpu.q", False, True, 86400, 1, 1, 2, 4),
        ("staff.q", False, False, None, 1, 2, 2, 0),
        ("inter.q", False, False, None, 1, 2, 2, 0),
        ("down.q", False, False, None, 0, 4, 4, 0),
    ]
    assert found.batch.accounts == (Account("chem", True), Account("physics", False))


def test_grid_engine_proposes_the_names_that_the_site_has_for_things() -> None:
    found = survey("nsc")
    default = keys(found)
    assert default["pilot.partition"] == "all.q"
    assert default["pilot.account"] == "chem"
    assert (default["pilot.cpus"], default["pilot.memory"], default["pilot.walltime"]) == (2, "21 GB", "8 h")
    # smp is what is asked for where nothing is said; h_vmem is what jobs use up here
    assert {name: value for name, value in default.items() if "options" in name} == {"pilot.options.memory_resource": "h_vmem"}
    assert keys(found, partition="long.q")["pilot.options.pe"] == "threaded"
    assert "pilot.options.pe" not in keys(found, partition="long.q", cpus=1)
    assert keys(found, partition="gpu.q", gpus=4)["pilot.gpus"] == 4
    assert "has nodes with 4" in refused(found, partition="gpu.q", gpus=5)
    assert "closed" in refused(found, partition="staff.q")
    assert "chem, physics" in refused(found, account="closed")
    assert [(one.option, one.answers) for one in choices(found, Asked("x", "x"))] == [
        ("--partition", ("all.q", "long.q", "gpu.q")), ("--account", ("chem", "physics"))
    ]  # fmt: skip


def test_projects_of_grid_engine_that_nobody_must_name_are_not_named() -> None:
    found = survey("nsc")
    found = replace(found, batch=replace(found.batch, charges=False, need_account=False, accounts=(Account("chem", False), Account("physics", False))))
    assert "pilot.account" not in keys(found)
    assert keys(found, account="physics")["pilot.account"] == "physics"
    # the queue is open to projects only
    assert keys(found, partition="gpu.q")["pilot.account"] == "chem"
    assert [one.option for one in choices(found, Asked("x", "x"))] == ["--partition"]


def test_resources_of_grid_engine_under_other_names_and_those_a_job_must_ask_for() -> None:
    complexes = "m_mem_free mfree MEMORY <= YES YES 0 0\nngpus ng INT <= YES YES 0 0\nproject_code pc RESTRING == FORCED NO NONE 0\n"
    complexes += "h_rt h_rt TIME <= FORCED NO 0:0:0 0\n"
    hosts = golden("nsc.out")
    hosts = hosts[hosts.index("<?xml") : hosts.index("</qhost>") + 8]
    queue = "qname all.q\nqtype BATCH\npe_list make,[@big=threaded]\n"
    pes = "pe_name make\nslots 99\nallocation_rule $round_robin\npe_name threaded\nslots 99\nuser_lists NONE\nallocation_rule $pe_slots\n"
    batch = looked(
        "sge", names="all.q\n", queues=queue, hosts=hosts, complexes=complexes, pes=pes,
        have="hostname nsc-login\ncomplex_values m_mem_free=16G,\\\n    ngpus=2\n",
    )  # fmt: skip
    (one,) = batch.partitions
    assert one.options == {"pe": "threaded", "memory_resource": "m_mem_free", "gpu_resource": "ngpus"}
    assert (one.memory, one.gpus) == (16 * GIB, 2)
    assert batch.notes == ("the site wants each job to ask for project_code: `icp config set site.NAME.pilot.constraint project_code=...`",)


@pytest.mark.parametrize(("text", "value"), [("24:00:00", 86400), ("86400", 86400), ("INFINITY", None), ("1:00:00,[n1=2:00:00]", 3600), ("", None)])
def test_times_of_grid_engine(text: str, value: int | None) -> None:
    assert grid_engine.seconds(text) == value


@pytest.mark.parametrize(("text", "value"), [("23.541G", int(23.541 * GIB)), ("512.0M", 512 * 2**20), ("2k", 2000), ("0.0", 0), ("-", None)])
def test_sizes_of_grid_engine(text: str, value: int | None) -> None:
    assert grid_engine.size(text) == value


def test_hosts_of_grid_engine_that_cannot_be_read_leave_no_queue_open() -> None:
    for broken in ("", "<?xml version='1.0'?><qhost><host>", "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><qhost></qhost>"):
        (one,) = looked("sge", names="all.q\n", queues="qname all.q\nslots 4\nqtype BATCH\n", hosts=broken).partitions
        assert not one.open


# --- HTCondor


def test_condor_is_one_pool_without_queues() -> None:
    found = survey("nsd")
    assert (found.scheduler, found.batch.version, found.batch.accounting, found.batch.shared) == ("condor", "23.9.6", True, True)
    assert found.batch.partitions == (Partition("", True, True, None, 1, 2, 4000 * 2**20, 0, None, 2),)
    proposed = keys(found)
    assert (proposed["pilot.cpus"], proposed["pilot.memory"], proposed["pilot.walltime"]) == (2, "4 GB", "8 h")
    assert not [name for name in proposed if name in ("pilot.partition", "pilot.account", "shared")]
    assert "condor has no partitions" in refused(found, partition="vanilla")
    assert "the pool has none" in refused(found, gpus=1)
    assert "the nodes of the pool have 2" in refused(found, cpus=4)


def test_condor_without_a_shared_file_system_is_told_by_its_domains() -> None:
    proposal = propose(survey("nsf"), Asked("x", "x"))
    assert proposal.keys["shared"] is False
    assert any("share no files" in note for note in proposal.notes)


def test_a_pool_of_many_kinds_of_slots() -> None:
    text = golden("centre-condor-slots.txt")
    # three alike that start nothing are no part of it
    assert [(one.number, one.cpus, one.gpus) for one in slots(text)] == [(120, 1, 0), (40, 64, 0), (8, 128, 4), (2, 8, 0)]
    batch = looked("condor", asked="", slots=text, domain="Pool.example.org\n", groups="group_physics, group_chem\n")
    (pool,) = batch.partitions
    # 120 slots of one cpu are few cpus
    assert (pool.nodes, pool.cpus, pool.largest, pool.gpus, pool.memory) == (170, 64, 128, 4, 257000 * 2**20)
    assert batch.shared is True
    assert any(note.startswith("168 of 170 slots share files") for note in batch.notes)
    assert [one.name for one in batch.accounts] == ["group_physics", "group_chem"]
    found = replace(survey("nsd"), batch=batch)
    assert "pilot.account" not in keys(found)
    assert keys(found, account="group_chem")["pilot.account"] == "group_chem"


def test_a_promise_of_time_before_a_job_is_displaced_is_told() -> None:
    batch = looked("condor", asked="", slots="10 8\t16000\t0\td\t14400\t8\t16000\ttrue\n", domain="d\n")
    assert any("4 h 00 min" in note for note in batch.notes)
    assert not looked("condor", asked="", slots="10 8\t16000\t0\td\t0\t8\t16000\ttrue\n", domain="d\n").notes


# --- PBS and Torque


def test_openpbs_shows_its_queues_nodes_and_whether_it_keeps_ended_jobs() -> None:
    found = survey("pbs")
    assert (found.scheduler, found.batch.version, found.batch.accounting) == ("pbs", "23.06.06", True)
    whole = (None, 2, 8, 8, 2)
    assert shapes(found.batch) == [
        ("workq", True, True, *whole),
        ("small", False, True, 3600, 2, 2, 2, 2),
        ("closed", False, False, *whole),
        ("stopped", False, False, *whole),
        # open to somebody else
        ("staff", False, False, *whole),
        # only small is behind it, and what small does not take is dropped after it was submitted
        ("route", False, True, 3600, 2, 2, 2, 2),
        ("lim", False, True, *whole),
        ("limres", False, True, *whole),
        ("limrun", False, True, *whole),
        ("qres", False, True, *whole),
        # its jobs together may have two cpus: one that asks for more waits for ever
        ("qavail", False, True, None, 2, 2, 2, 2),
        ("resvq", False, False, *whole),
    ]
    proposed = keys(found)
    assert (proposed["pilot.partition"], proposed["pilot.cpus"], proposed["pilot.memory"]) == ("workq", 8, "25 GB")
    routed = keys(found, partition="route")
    assert (routed["pilot.cpus"], routed["pilot.memory"], routed["pilot.walltime"]) == (2, "1 GB", "1 h")
    assert keys(found, gpus=2)["pilot.gpus"] == 2


def test_a_centre_with_pbs() -> None:
    server, queues, nodes = (golden(f"centre-pbs-{name}.txt") for name in ("server", "queues", "nodes"))
    batch = looked("pbs", server=server, queues=queues, nodes=nodes, groups="phys ml\n")
    assert shapes(batch) == [
        # what is sent to it goes on to either: the longer walltime is to be had
        ("route", True, True, 72 * 3600, 2, 48, 96, 0),
        ("small", False, False, 12 * 3600, 2, 24, 24, 0),
        ("large", False, False, 72 * 3600, 2, 48, 96, 0),
        ("gpu", False, True, 86400, 1, 32, 32, 2),
        ("mine", False, True, 240 * 3600, 1, 8, 8, 0),
        ("stopped", False, False, 240 * 3600, 3, 32, 96, 4),
    ]
    other = looked("pbs", "carol", server=server, queues=queues, groups="phys\n")
    assert {one.name: one.open for one in other.partitions} == {
        "route": True, "small": False, "large": False, "gpu": False, "mine": False, "stopped": False
    }  # fmt: skip


def test_torque_over_slurm_shows_limits_in_another_listing() -> None:
    found = survey("nse")
    assert (found.scheduler, found.batch.accounting) == ("torque", None)
    assert shapes(found.batch) == [("batch", False, True, 86400, 2, 4, 4, 0), ("debug", False, True, 300, 2, 4, 4, 0)]
    assert [one.memory for one in found.batch.partitions] == [16000 * 2**20] * 2
    assert keys(found, partition="debug")["pilot.walltime"] == "5 min"


def test_a_cluster_with_torque() -> None:
    queues, nodes = golden("centre-torque-queues.txt"), golden("centre-torque-nodes.txt")
    batch = looked("torque", queues=queues, nodes=nodes, server="Server: head\n    default_queue = batch\n")
    assert shapes(batch) == [("batch", True, True, 48 * 3600, 2, 8, 16, 2), ("gpu", False, True, None, 1, 8, 8, 2)]
    assert batch.partitions[0].memory == 65688140 * 1024


def test_a_line_that_goes_on_belongs_to_its_attribute() -> None:
    text = "Queue: a\n    state_count = Transit:0 B\n\tegun:0 \n    enabled = True\n"
    assert pbs.records(text) == {"a": {"state_count": "Transit:0 Begun:0", "enabled": "True"}}


@pytest.mark.parametrize(
    ("text", "value"), [("24684092kb", 24684092 * 1024), ("187gb", 187 * GIB), ("512", 512), ("1tb", 1024 * GIB), ("4kw", 32768), ("much", None)]
)
def test_sizes_of_pbs(text: str, value: int | None) -> None:
    assert pbs.size(text) == value


# --- LSF


def test_lsf_after_its_documentation() -> None:
    queues, hosts = golden("centre-lsf-queues.txt"), golden("centre-lsf-hosts.txt")
    batch = looked("lsf", version="IBM Spectrum LSF Standard 10.1.0.14, Jun 2023\n", queues=queues, hosts=hosts)
    assert batch.version == "10.1.0.14"
    assert shapes(batch) == [
        ("normal", True, True, 86400, 2, 16, 40, 0), ("short", False, True, 1800, 1, 16, 16, 0), ("owners", False, False, None, 2, 16, 40, 0),
        ("idle", False, False, None, 2, 16, 40, 0),
    ]  # fmt: skip
    assert {one.name for one in lsf.queues(queues, {}, "bob", "short") if one.open} == {"normal", "short", "owners"}


# --- all


@pytest.mark.parametrize(("scheduler", "part", "said"), [
    ("sge", "names", "error: unable to send message to qmaster\n"), ("condor", "asked", "Failed to connect to local queue manager\n"),
    ("pbs", "queues", "Connection refused\nqstat: cannot connect to server pbs1 (errno=111)\n"), ("torque", "queues", "Unable to contact slurm controller\n"),
    ("lsf", "queues", "Failed in an LSF library call: LIM is down; try later\n"),
])  # fmt: skip
def test_a_batch_system_that_is_down_makes_no_site(scheduler: str, part: str, said: str) -> None:
    batch = looked(scheduler, code=1, **{part: said})
    assert said.splitlines()[-1] in batch.trouble
    assert "did not answer" in looked(scheduler).trouble
    with pytest.raises(BadInput, match="does not answer"):
        propose(replace(survey("nsd"), scheduler=scheduler, batch=batch), Asked("x", "x"))

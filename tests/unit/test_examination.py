"""What findings mean for running at a site: clocks, disks, purges, login nodes, accounting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from icp.backends.base import Unknown
from icp.backends.survey import Survey
from icp.backends.survey.batch import Account, Batch
from icp.config import load
from icp.engine import examination
from icp.engine.examination import Finding

GB = 10**9
SURVEY = Survey(user="me", host="login1", home="/home/me", cpus=8, memory=None, gpus=0, python="/usr/bin/python3", python_version="3.9.2", path=None,
                path_for=(), disks=(), quotas=(), scheduler="slurm", batch=Batch(version="23.02"))  # fmt: skip


@pytest.fixture
def site() -> Any:
    return replace(next(iter(load({"ICP_HOME": "/nowhere"}).sites.values())), name="nsa", host="nsa", scheduler="slurm")


def by_name(some: Any) -> dict[str, Finding]:
    return {one.name: one for one in some}


def test_a_clock_is_judged_only_beyond_what_the_journey_took() -> None:
    assert examination._clock(1000.0, 990.0, 1010.0).ok is True
    assert examination._clock(1150.0, 990.0, 1010.0).ok is None
    assert examination._clock(1065.0, 990.0, 1010.0).ok is True, "65 s, give or take 10"
    assert "behind" in examination._clock(900.0, 999.0, 1001.0).found


def test_several_login_nodes_are_told_and_forbidden_where_pilots_run_on_them(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_addresses", lambda site: ["10.0.0.1", "10.0.0.2"])
    assert examination._nodes(site, "login1", "login1").ok is None
    bare = examination._nodes(replace(site, scheduler="none"), "login1", None)
    assert bare.ok is False
    assert "own name" in bare.means
    monkeypatch.setattr(examination, "_addresses", lambda site: ["10.0.0.1"])
    assert examination._nodes(site, "login1", None).ok is True
    other = examination._nodes(site, "login2", "login1")
    assert other.ok is None
    assert "login1 did before" in other.found


@pytest.mark.parametrize(
    ("more", "name", "ok"),
    [
        ({}, "root", True),
        ({"free": GB}, "root", False),
        ({"inodes": 100}, "root", False),
        ({"inodes": 0}, "root", True),  # some file systems do not count them
        ({"why": "Disk quota exceeded"}, "root", False),
        ({"kind": "lustre"}, "shared", True),
        ({"kind": "ext4"}, "shared", None),
        ({"kind": "lustre", "path": "/scratch/me", "oldest": 12.0}, "purge", None),
        ({"kind": "lustre", "path": "/scratch/me", "oldest": 200.0}, "purge", True),
    ],
)
def test_disks(site: Any, more: dict[str, Any], name: str, ok: bool | None) -> None:
    disk = {"name": "root", "path": "/home/me/icp", "kind": "nfs4", "why": "", "free": 50 * GB, "inodes": 10**6, "oldest": 1.0, **more}
    assert by_name(examination._disk(site, disk, checked=False))[name].ok is ok


def test_what_a_worker_saw_is_not_guessed_again(site: Any) -> None:
    disk = {"name": "root", "path": "/home/me/icp", "kind": "ext4", "why": "", "free": 50 * GB, "inodes": 10**6, "oldest": 1.0}
    assert "shared" not in by_name(examination._disk(site, disk, checked=True))


def test_batch_systems(site: Any) -> None:
    def of(batch: Batch, **more: Any) -> dict[str, Finding]:
        return by_name(examination._batch(replace(site, **more), replace(SURVEY, batch=batch)))

    assert of(Batch(accounting=True))["accounting"].ok is True
    assert of(Batch(accounting=False))["accounting"].ok is None
    assert of(Batch(accounting=True), accounting=False)["accounting"].ok is None
    assert of(Batch(trouble="slurmctld does not answer"))["scheduler"].ok is False
    assert of(Batch(need_account=True))["account"].ok is False
    assert "phys" in of(Batch(need_account=True, accounts=(Account("phys", default=True),)))["account"].found
    assert of(Batch(), scheduler="pbs")["scheduler"].ok is None, "another one is there than the configuration says"
    assert by_name(examination._batch(site, Unknown("no")))["scheduler"].ok is None
    assert by_name(examination._batch(site, replace(SURVEY, quotas=("/home: 19.0 of 20.0 GB",))))["quota"].ok is None
    assert by_name(examination._batch(site, replace(SURVEY, quotas=("/home: 9.0 of 20.0 GB",))))["quota"].ok is True

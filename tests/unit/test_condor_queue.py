"""What a queue of HTCondor says of jobs, and what is ordered there; the listing was recorded from a real pool (23.9)."""

from __future__ import annotations

import io
import shlex
import tarfile
from pathlib import Path

import pytest

from icp.backends import condor_queue as queue
from icp.backends.base import Result, Unknown
from icp.dsl.foreign.job_ad import destination, read_ad, refusal

RECORDED = (Path(__file__).parents[1] / "golden" / "condor" / "queue.txt").read_bytes()
LEDGER = "0a1b2c3d-0000-4000-8000-000000000000"


def ads() -> dict[queue.Key, dict[str, object]]:
    found = queue.parse_listing(Result(0, RECORDED, b""))
    assert not isinstance(found, Unknown)
    return found


def test_the_recorded_listing() -> None:
    found = ads()
    assert list(found) == [(5, 0), (5, 1)]
    assert [queue.ours(ad, LEDGER) for ad in found.values()] == [False, True]
    assert not queue.ours(found[5, 1], "ffffffff")


@pytest.mark.parametrize("outcome", [
    Unknown("gone"), Result(1, RECORDED, b"Failed to connect to schedd"), Result(0, RECORDED[:-40], b""), Result(0, b"", b""),
    Result(0, b"icp-listing\n[{}]", b""),
])  # fmt: skip
def test_what_is_no_whole_listing_tells_nothing(outcome: Result | Unknown) -> None:
    assert isinstance(queue.parse_listing(outcome), Unknown)


def test_an_empty_queue_and_jobs_that_leave_it() -> None:
    assert queue.parse_listing(Result(0, b"motd\nicp-listing\n", b"")) == {}
    assert queue.parse_listing(Result(0, b'icp-listing\n[{"ClusterId": 1, "ProcId": 0, "JobStatus": 3}]', b"")) == {}


def test_the_job_of_a_recorded_ad() -> None:
    ad = ads()[5, 1]
    found = read_ad(ad)
    assert found.job.argv == ("./run.sh", "5", "it's", '"x"')
    assert found.job.env == (("A", "x y"),)
    assert found.files == ("/home/alice/w/in.txt", "/home/alice/w/logs", "/home/alice/w/run.sh")
    assert found.job.links == (("home/alice/w/in.txt", "in.txt"), ("home/alice/w/logs", "home/alice/w/logs/"))
    assert [out.name for out in found.job.outputs] == ["logs/o", "a", "c/d", "e/**"]
    assert found.job.resources == {"cpus": "1", "gpus": "0", "memory": "300 MiB", "disk": "1000000 KiB", "time": "8 h"}
    assert found.max_tries == 4
    places = {name: destination(ad, name) for name in ("logs/o", "a", "c/d", "e/x/y", "new")}
    assert places == {"logs/o": "/home/alice/w/logs/o", "a": "/home/alice/w/sub/b", "c/d": "/home/alice/w/d", "e/x/y": "/home/alice/w/x/y",
                      "new": "/home/alice/w/new"}  # fmt: skip


@pytest.mark.parametrize("change", [
    {"JobUniverse": 7}, {"ContainerImage": "x.sif"}, {"MaxHosts": 2}, {"ShouldTransferFiles": "NO"}, {"TransferInput": "a, osdf:///x"}, {"Cmd": ""},
])  # fmt: skip
def test_jobs_that_stay_where_they_are(change: dict[str, object]) -> None:
    ad = ads()[5, 1]
    assert refusal(ad) is None
    assert refusal({**ad, **change})


def test_orders_are_constraints_on_what_is_known() -> None:
    lines = queue.orders(LEDGER, hold=[(1, n) for n in range(500)] + [(2, 0), (2, 2)], remove=[(3, 1)], release=[(4, 0)]).splitlines()
    words = [shlex.split(line) for line in lines]
    assert [one[0] for one in words] == ["condor_hold", "condor_rm", "condor_release"]
    spans = [(1, 0, 499), (2, 0, 0), (2, 2, 2)]
    which = " || ".join(f"(ClusterId == {cluster} && ProcId >= {first} && ProcId <= {last})" for cluster, first, last in spans)
    assert words[0][words[0].index("-constraint") + 1] == f"JobStatus == 1 && IcpOverflow =?= True && ({which})"
    assert all(one[one.index("-constraint") + 1].startswith('JobStatus == 5 && regexp("^icp 0a1b2c3d:", HoldReason)') for one in words[1:])
    assert queue.orders(LEDGER) == ""


def test_only_what_was_asked_for_is_taken_from_a_tar() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("./home/a", "./home/b/c", "etc/x", "./home/b/../../etc/y", "./home/b/link", "./home/ab"):
            kind = tarfile.SYMTYPE if name.endswith("link") else tarfile.REGTYPE
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, "/etc/passwd", 0o700
            info.size = 2 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"hi"))
    whole = queue.fetched(buffer.getvalue(), ["/home/a", "/home/b"])
    assert whole == {"home/a": (b"hi", True), "home/b/c": (b"hi", True)}
    assert queue.fetched(buffer.getvalue()[:700], ["/home/a", "/home/b"]).keys() <= {"home/a"}


def test_jobs_whose_outputs_are_in_place() -> None:
    assert queue.delivered(Result(1, b"ok 1.0\nok 17.33\nok\nok a.b\nno 2.0\nok 3\n", b"")) == {(1, 0), (17, 33)}
    assert queue.delivered(Unknown("cut", b"ok 1.0\n")) == {(1, 0)}

"""A real SLURM where it misleads: what it says when it is down, forgets, filters, or will never run a job."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from icp.backends.base import Result, Unknown
from icp.backends.batch.slurm import NEVER, combine, parse_sacct, parse_squeue, sacct_argv, squeue_argv
from icp.backends.openssh import OpenSSH
from icp.backends.parsl_provider import cancel_argv, cancel_name_argv, job_id
from icp.backends.ssh_socket import control_folder
from icp.model.batch import Known, NotSubmitted, Submitted, Unclear, batch_name
from icp.places import places
from tests.lab.sites import LabSite

pytestmark = pytest.mark.lab

LEDGER = "5151feed-0000"


class Cluster:
    """A cluster as the engine will see it: commands in, parsed answers out."""

    def __init__(self, site: LabSite) -> None:
        self.over = OpenSSH(site.name, control_folder(places().state), config=site.lab.ssh_config)
        self.count = 0

    def run(self, argv: list[str]) -> Result:
        outcome = self.over.run(argv, b"", 40)
        assert isinstance(outcome, Result)
        return outcome

    def submit(self, pilot: str, *options: str, body: str = "sleep 100") -> Submitted | NotSubmitted | Unclear:
        script = ["--no-requeue", "-o", "/dev/null", "-J", batch_name(LEDGER, pilot), *options, f"--wrap={body}"]
        got = self.run(["sbatch", *script])
        return job_id("slurm", got.code, got.out.decode(), got.err.decode())

    def listed(self, **environment: str) -> dict[str, Known] | Unknown:
        got = self.run(["env", *(f"{name}={value}" for name, value in environment.items()), *squeue_argv()])
        return parse_squeue(got.code, got.out.decode(), got.err.decode(), LEDGER)

    def accounted(self, *jobs: str) -> dict[str, Known] | Unknown:
        got = self.run(sacct_argv(jobs))
        return parse_sacct(got.code, got.out.decode(), got.err.decode(), LEDGER)

    def until(self, pilot: str, wanted: Callable[[Known | None], object], *jobs: str, seconds: float = 90) -> Known | None:
        end = time.monotonic() + seconds
        while True:
            found = combine(self.listed(), self.accounted(*jobs) if jobs else None)
            assert not isinstance(found, Unknown)
            if wanted(found.get(pilot)):
                return found.get(pilot)
            assert time.monotonic() < end, found
            time.sleep(0.2)


@pytest.fixture
def pilot(request: pytest.FixtureRequest) -> str:
    return f"{zlib.crc32(request.node.nodeid.encode()):016x}"


def cluster(site: LabSite) -> Iterator[Cluster]:
    one = Cluster(site)
    yield one
    one.run(["scancel", "--me"])
    one.over.close()


@pytest.fixture
def plain(broken_nsa: LabSite) -> Iterator[Cluster]:
    yield from cluster(broken_nsa)


@pytest.fixture
def accounting(nsb: LabSite) -> Iterator[Cluster]:
    yield from cluster(nsb)


def test_controller_that_is_down_tells_nothing_and_works_when_it_is_back(plain: Cluster, broken_nsa: LabSite, pilot: str) -> None:
    assert isinstance(plain.submit(pilot), Submitted)
    plain.until(pilot, lambda known: known and known.word == "running")
    broken_nsa.kill("scheduler")
    found = plain.listed()
    assert isinstance(found, Unknown)
    assert "Unable to contact slurm controller" in found.why
    refused = plain.submit("0" * 16)
    assert isinstance(refused, NotSubmitted)
    assert refused.again
    broken_nsa.bring_up()
    # killed before it saved its state, it has forgotten the job, and ends it when the node tells of it
    assert isinstance(plain.listed(), dict)
    plain.until(pilot, lambda known: known is None or known.word == "running")
    assert isinstance(plain.submit("0" * 15 + "1", body="exit 0"), Submitted)
    plain.until("0" * 15 + "1", lambda known: known and known.exit == 0)


def test_persons_filter_hides_nothing(plain: Cluster, pilot: str) -> None:
    plain.submit(pilot, "-p", "normal")
    plain.until(pilot, bool)
    found = plain.listed(SQUEUE_PARTITION="debug", SQUEUE_STATES="CG", SQUEUE_NAMES="x", SQUEUE_FORMAT="%i")
    assert isinstance(found, dict)
    assert pilot in found


@pytest.mark.parametrize(("options", "reason"), [
    (("-p", "debug", "-t", "100"), "PartitionTimeLimit"), (("-N", "5"), "PartitionNodeLimit"), (("-c", "64"), "PartitionConfig"), (("-H",), "JobHeldUser"),
])  # fmt: skip
def test_job_that_will_never_run_says_what_mends_it(plain: Cluster, pilot: str, options: tuple[str, ...], reason: str) -> None:
    assert isinstance(plain.submit(pilot, *options), Submitted)
    known = plain.until(pilot, lambda known: known and known.reason == reason)
    assert known is not None
    assert (known.word, known.reason) == ("pending", reason)
    assert NEVER[reason]


@pytest.mark.parametrize(("options", "said"), [
    (("-p", "nosuch"), "no such partition"), (("-A", "nosuch"), "account"), (("-q", "nosuch"), "QOS"), (("-C", "nosuch"), "constraint"),
    (("--mem=9999999",), "no node of the partition has so much"),
])  # fmt: skip
def test_refusal_is_a_sentence_and_leaves_no_living_job(accounting: Cluster, pilot: str, options: tuple[str, ...], said: str) -> None:
    refused = accounting.submit(pilot, *options)
    assert isinstance(refused, NotSubmitted)
    assert said in refused.why
    assert not refused.again
    found = accounting.listed()
    assert isinstance(found, dict)
    # a refused job may be listed for a while, as FAILED: BadConstraints
    assert pilot not in found or found[pilot].word == "ended"


def test_failure_keeps_its_exit_after_the_queue_forgot_it_and_beside_a_living_job(accounting: Cluster, pilot: str) -> None:
    accounting.submit("00000000000000ff")
    failed = accounting.submit(pilot, body="exit 7")
    assert isinstance(failed, Submitted)
    known = accounting.until(pilot, lambda known: known and known.exit == 7, failed.job)
    assert known is not None
    assert known.reason == "FAILED"
    end = time.monotonic() + 30
    while pilot in (accounting.listed() or {}):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert accounting.until(pilot, lambda known: known, failed.job) == Known("ended", "FAILED", 7, failed.job)


def test_unknown_id_does_not_spoil_the_others(accounting: Cluster, pilot: str) -> None:
    done = accounting.submit(pilot, body="exit 0")
    assert isinstance(done, Submitted)
    known = accounting.until(pilot, lambda known: known and known.exit == 0, done.job, "4000000000")
    assert known is not None


def test_two_jobs_of_one_pilot_are_seen_and_all_cancelled_by_name(plain: Cluster, pilot: str) -> None:
    one, other = plain.submit(pilot), plain.submit(pilot)
    assert isinstance(one, Submitted)
    assert isinstance(other, Submitted)
    known = plain.until(pilot, lambda known: known and known.others)
    assert known is not None
    assert {known.job, *known.others} == {one.job, other.job}
    assert plain.run(cancel_argv("slurm", [other.job])).code == 0
    plain.until(pilot, lambda known: known and not known.others)
    assert plain.run(cancel_name_argv(batch_name(LEDGER, pilot))).code == 0
    plain.until(pilot, lambda known: known is None or known.word == "ended")


def test_operator_cannot_requeue_a_pilot(plain: Cluster, pilot: str) -> None:
    job = plain.submit(pilot)
    assert isinstance(job, Submitted)
    plain.until(pilot, lambda known: known and known.word == "running")
    assert plain.run(["scontrol", "requeue", job.job]).code != 0

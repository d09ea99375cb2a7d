"""What SLURM says, recorded from real ones, and what is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icp.backends.base import Unknown
from icp.backends.batch.slurm import NEVER, SLURM, combine, parse_sacct, parse_squeue, sacct_argv, squeue_argv
from icp.model.batch import Known, batch_name

GOLDEN = Path(__file__).parents[1] / "golden" / "slurm"
LEDGER = "0a1b2c3d-1111-2222-3333-444444444444"
A, B = "000000000000000a", "000000000000000b"

# `man squeue` and `man sacct`, JOB STATE CODES, 22.05 to 25.05
MANUAL = [
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "CONFIGURING", "COMPLETING", "DEADLINE", "EXPEDITING", "FAILED",
    "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PENDING", "POWER_UP_NODE", "PREEMPTED", "RECONFIG_FAIL",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "REVOKED", "RUNNING", "SIGNALING",
    "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "TIMEOUT", "UPDATE_DB",
]  # fmt: skip


def line(pilot: str, state: str, reason: str = "None", job: int = 1, name: str | None = None) -> str:
    return f"{job}|{state}|{reason}|{name or batch_name(LEDGER, pilot)}\n"


def accounted(pilot: str, state: str, code: str = "0:0", job: int = 1, name: str | None = None) -> str:
    return f"{job}|{name or batch_name(LEDGER, pilot)}|{state}|{code}|00:00:01|1\n"


def listed(text: str) -> dict[str, Known]:
    found = parse_squeue(0, text, "", LEDGER)
    assert not isinstance(found, Unknown)
    return found


def ended(text: str) -> dict[str, Known]:
    found = parse_sacct(0, text, "", LEDGER)
    assert not isinstance(found, Unknown)
    return found


@pytest.mark.parametrize(("name", "parse"), [("squeue", parse_squeue), ("sacct", parse_sacct), ("sacct-early", parse_sacct)])
def test_recorded_answers(name: str, parse: object) -> None:
    found = parse(0, (GOLDEN / f"{name}.out").read_text(), "", LEDGER)  # type: ignore[operator]
    wanted = json.loads((GOLDEN / f"{name}.json").read_text())
    assert {pilot: [one.word, one.reason, one.exit, one.job] for pilot, one in found.items()} == wanted


@pytest.mark.parametrize(("program", "code", "out", "err"), json.loads((GOLDEN / "failures.json").read_text()))
def test_recorded_failures_tell_nothing(program: str, code: int, out: str, err: str) -> None:
    found = {"squeue": parse_squeue, "sacct": parse_sacct}[program](code, out, err, LEDGER)
    assert isinstance(found, Unknown)
    assert err.strip() in found.why


def test_every_state_of_the_manual_has_a_word() -> None:
    assert sorted(SLURM) == sorted(MANUAL)
    assert set(SLURM.values()) == {"pending", "running", "ended", "unknown"}


@pytest.mark.parametrize("state", MANUAL)
def test_state_as_squeue_prints_it(state: str) -> None:
    assert listed(line(A, state))[A].word == SLURM[state]


@pytest.mark.parametrize("state", MANUAL)
def test_accounting_is_believed_for_ends_only(state: str) -> None:
    assert (A in ended(accounted(A, state))) == (SLURM[state] == "ended")


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "OUT_OF_MEMORY", "PREEMPTED", "NODE_FAIL", "TIMEOUT"])
def test_end_without_success_has_no_exit_zero(state: str) -> None:
    assert listed(line(A, state))[A].exit != 0
    assert ended(accounted(A, state, "0:0"))[A].exit != 0


def test_failed_stays_failed_while_another_job_is_active() -> None:
    # Parsl's own status() makes it COMPLETED at the second look
    text = line(A, "FAILED", "NonZeroExitCode", 1) + line(B, "RUNNING", job=2)
    assert listed(text) == listed(text)
    assert listed(text)[A].reason == "FAILED: NonZeroExitCode"


@pytest.mark.parametrize("state", ["COMPLETING", "SUSPENDED"])
def test_completing_and_suspended_have_not_ended(state: str) -> None:
    assert listed(line(A, state))[A] == Known("running", state, None, "1")


def test_job_that_the_accounting_does_not_know_yet_has_not_ended() -> None:
    assert combine(listed(line(A, "PENDING", "Priority")), ended(""), [A]) == {A: Known("pending", "Priority", None, "1")}
    assert combine({}, ended(""), [A]) == {}


def test_accounting_that_calls_a_job_allocation_is_early() -> None:
    assert ended(accounted(A, "COMPLETED", name="allocation")) == {}


def test_accounting_of_an_older_job_with_the_same_id_is_not_ours() -> None:
    assert ended(accounted(A, "FAILED", "1:0", name="simulation")) == {}
    assert ended(accounted(A, "FAILED", "1:0", name=f"icp-ffffffff-{A}")) == {}


def test_runaway_job_of_the_accounting_is_not_running() -> None:
    assert combine({}, ended(accounted(A, "RUNNING")), [A]) == {}


def test_listing_that_failed_says_nothing_whatever_accounting_says() -> None:
    assert isinstance(combine(Unknown("down"), ended(accounted(A, "COMPLETED"))), Unknown)


def test_accounting_that_failed_keeps_what_left_the_listing_unknown() -> None:
    found = combine(listed(line(B, "RUNNING")), Unknown("sacct failed: down"), [A])
    assert not isinstance(found, Unknown)
    assert found[A] == Known("unknown", "sacct failed: down")
    assert found[B].word == "running"


def test_listing_wins_over_the_end_of_an_earlier_incarnation() -> None:
    found = combine(listed(line(A, "RUNNING", job=2)), ended(accounted(A, "NODE_FAIL", job=1)), [A])
    assert found == {A: Known("running", "", None, "2")}


def test_accounting_adds_the_exit_to_what_the_listing_calls_ended() -> None:
    found = combine(listed(line(A, "FAILED", "NonZeroExitCode")), ended(accounted(A, "FAILED", "7:0")), [A])
    assert found == {A: Known("ended", "FAILED", 7, "1")}


def test_two_jobs_of_one_pilot_are_seen() -> None:
    text = line(A, "PENDING", "Priority", 7) + line(A, "RUNNING", job=6) + line(A, "CANCELLED", job=5)
    assert listed(text)[A] == Known("running", "", None, "6", ("7",))


def test_names_of_others_may_hold_anything() -> None:
    text = "5|RUNNING|None|a | b\n6|PENDING|None|\n7|RUNNING\nrubbish\n||||\n" + line(A, "RUNNING", job=8) + "9|RUNNING|None|icp-0a1b2c3d-short\n"
    assert list(listed(text)) == [A]


def test_name_with_the_time_that_parsl_adds() -> None:
    assert list(listed(line(A, "RUNNING", name=batch_name(LEDGER, A) + ".1764040000.123"))) == [A]


@pytest.mark.parametrize("parse", [parse_squeue, parse_sacct])
def test_answer_that_is_cut_off_tells_nothing(parse: object) -> None:
    assert isinstance(parse(0, line(A, "RUNNING")[:-1], "", LEDGER), Unknown)  # type: ignore[operator]
    assert isinstance(parse(None, "", "", LEDGER), Unknown)  # type: ignore[operator]


@given(st.text(), st.integers(0, 3))
def test_no_answer_breaks_a_parser(text: str, code: int) -> None:
    for parse in (parse_squeue, parse_sacct):
        found = parse(code, text, text, LEDGER)
        assert isinstance(found, (dict, Unknown))
        assert not isinstance(found, Unknown) or found.why.isprintable()


def test_questions() -> None:
    asked = squeue_argv()
    assert asked[asked.index("squeue") :] == ["squeue", "--me", "-a", "-h", "-t", "all", "-o", "%i|%T|%r|%j"]
    assert "SQUEUE_PARTITION" in asked  # unset: the person's own filter would make jobs look gone
    old = squeue_argv("alice")
    assert old[old.index("squeue") :][:3] == ["squeue", "-u", "alice"]
    assert sacct_argv(["4", "5"]) == ["sacct", "-nXP", "-j", "4,5", "-o", "JobIDRaw,JobName,State,ExitCode,Elapsed,AllocCPUS"]


def test_reasons_that_never_pass_have_a_remedy() -> None:
    for reason in ("PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints"):
        assert NEVER[reason]
    assert "Priority" not in NEVER
    assert "Resources" not in NEVER

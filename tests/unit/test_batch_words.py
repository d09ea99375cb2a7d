"""Every word and letter that a batch system has for a job, and what else the parsers must not be misled by."""

from __future__ import annotations

import pytest

from icp.backends.base import Unknown
from icp.backends.batch import system
from icp.backends.batch.condor import CONDOR, parse_history, parse_queue
from icp.backends.batch.grid_engine import parse_qacct, parse_qstat, word_of
from icp.backends.batch.listing import seconds
from icp.backends.batch.lsf import LSF
from icp.backends.batch.pbs import PBS, parse_full, parse_left
from icp.model.batch import Known, batch_name

LEDGER = "0a1b2c3d-1111-2222-3333-444444444444"
A = "000000000000000a"
NAME = batch_name(LEDGER, A)

# `man sge_status` of Son of Grid Engine, with what qstat prints for them
SGE = {
    "qw": "pending", "hqw": "pending", "hRwq": "pending", "Rq": "pending", "r": "running", "t": "running", "Rr": "running", "Rt": "running", "hr": "running",
    "hRr": "running", "s": "running", "ts": "running", "S": "running", "tS": "running", "T": "running", "tT": "running", "sT": "running", "Eqw": "pending",
    "Ehqw": "pending", "EhRqw": "pending", "dr": "running", "dt": "running", "dRr": "running", "ds": "running", "dS": "running", "dT": "running",
    "dRT": "running", "z": "ended", "": "unknown", "?": "unknown", "x": "unknown",
}  # fmt: skip


@pytest.mark.parametrize(("letters", "word"), SGE.items())
def test_letters_of_grid_engine(letters: str, word: str) -> None:
    assert word_of(letters) == word


def test_words_are_all_there() -> None:
    assert set(PBS) == set("BCEFHMQRSTUWX")
    assert sorted(CONDOR) == list(range(8))
    assert set(LSF) == {"PEND", "PROV", "PSUSP", "WAIT", "RUN", "USUSP", "SSUSP", "DONE", "EXIT", "UNKWN", "ZOMBI"}
    for table in (PBS, CONDOR, LSF):
        assert set(table.values()) <= {"pending", "running", "ended", "unknown"}


def full(state: str, **more: str) -> str:
    lines = [f"Job Id: 7.pbs1\n    Job_Name = {NAME}\n    job_state = {state}\n", *(f"    {name} = {value}\n" for name, value in more.items()), "\n"]
    return "".join(lines)


@pytest.mark.parametrize("state", PBS)
def test_state_of_pbs(state: str) -> None:
    found = parse_full(0, full(state), "", LEDGER)
    assert isinstance(found, dict)
    assert found[A].word == PBS[state]
    assert found[A].exit is None


@pytest.mark.parametrize(("text", "exit_"), [("0", 0), ("7", 7), ("137", 137), ("265", 137), ("271", 143), ("-3", None), ("x", None), ("", None)])
@pytest.mark.parametrize("key", ["Exit_status", "exit_status"])  # PBS, Torque
def test_exit_status_of_pbs(text: str, exit_: int | None, key: str) -> None:
    found = parse_left(0, full("F", **{key: text}) + "icp: 0 7.pbs1\n", "", LEDGER, {A: "7.pbs1"})
    assert isinstance(found, dict)
    assert found[A].exit == exit_


def test_pbs_job_that_ended_between_the_two_commands_does_not_spoil_the_listing() -> None:
    for code, said in ((153, "qstat: Unknown Job Id 9.pbs1\n"), (35, "qstat: 9.pbs1 Job has finished, use -x or -H to obtain historical job information\n")):
        found = parse_full(code, full("R"), said, LEDGER)
        assert isinstance(found, dict)
        assert found[A].word == "running"
        assert isinstance(parse_full(code, full("R"), said + "qstat: cannot connect to server pbs1 (errno=111)\n", LEDGER), Unknown)
        assert isinstance(parse_full(code, "", "", LEDGER), Unknown)


def test_pbs_without_history_has_no_accounting() -> None:
    # as it is said, with exit 0, of jobs that live and of those that nobody knows
    said = "qstat: PBS is not configured to maintain job history 7.pbs1\nicp: 0 all\n"
    assert parse_left(0, said, "", LEDGER, {A: "7.pbs1"}) is None
    assert system("pbs").states(LEDGER, [(0, "", ""), (0, said, "")], {A: "7.pbs1"}) == {}
    # a record has the word too
    kept = parse_left(0, full("F", Exit_status="0", history_timestamp="1795824586") + "icp: 0 7.pbs1\n", "", LEDGER, {A: "7.pbs1"})
    assert kept == {A: Known("ended", "F", 0, "7.pbs1")}


@pytest.mark.parametrize("comment", [
    "Not Running: would exceed user alice's limit on resource ncpus in queue limres",
    "Not Running: would exceed overall limit on resource ncpus in queue limres",
    "Not Running: Queue limres per-user limit reached on resource ncpus", "Not Running: User has reached queue limrun running job limit.",
    "Not Running: Not enough free nodes available", "Not Running: Insufficient amount of resource: ngpus (R: 2 A: 1 T: 2)",
])  # fmt: skip
def test_pbs_limit_that_is_reached_passes(comment: str) -> None:
    found = parse_full(0, full("Q", comment=comment), "", LEDGER)
    assert found == {A: Known("pending", comment, None, "7.pbs1")}


@pytest.mark.parametrize("comment", [
    "Can Never Run: Insufficient amount of queue resource: ncpus (R: 4 A: 2 T: 2)",
    "Can Never Run: Insufficient amount of resource: host (nosuch != pbs1,pbn2)",
    "Can Never Run: Not enough total nodes available",
])  # fmt: skip
def test_pbs_job_that_never_runs_is_our_mistake(comment: str) -> None:
    found = parse_full(0, full("Q", comment=comment), "", LEDGER)
    assert isinstance(found, dict)
    assert found[A].never
    assert found[A].ours


def test_pbs_queue_that_is_stopped_is_the_sites_doing() -> None:
    found = parse_full(0, full("Q", comment="Not Running: Queue not started."), "", LEDGER)
    assert isinstance(found, dict)
    assert found[A].never
    assert not found[A].ours


def test_pbs_job_that_its_server_ended_says_why() -> None:
    # the comment is gone where the server was started again
    ended = {comment: parse_left(0, full("F", Exit_status=status, **({"comment": comment} if comment else {})) + "icp: 0 7.pbs1\n", "", LEDGER, {A: "7.pbs1"})
             for comment, status in (("", "-29"), ("Job run at now", "-20"), ("Job run at now and exceeded resource mem", "-27"))}  # fmt: skip
    assert [one[A].reason for one in ended.values() if isinstance(one, dict)] == [
        "its walltime was over", "Job run at now; its node was lost", "Job run at now and exceeded resource mem",
    ]  # fmt: skip
    torque = parse_left(0, full("C", exit_status="-11") + "icp: 0 7.pbs1\n", "", LEDGER, {A: "7.pbs1"})
    assert torque == {A: Known("ended", "C", None, "7.pbs1")}


def test_pbs_breaks_long_lines() -> None:
    text = full("Q").replace(f"Job_Name = {NAME}", f"Job_Name = {NAME[:20]}\n\t{NAME[20:]}\n    Variable_List = A=b,\n\tJob_Name = x")
    found = parse_full(0, text, "", LEDGER)
    assert isinstance(found, dict)
    assert list(found) == [A]


def test_pbs_job_that_failed_too_often_says_so() -> None:
    found = parse_full(0, full("H", comment="job held, too many failed attempts to run", Hold_Types="s"), "", LEDGER)
    assert isinstance(found, dict)
    assert "could not start it" in found[A].never


def ad(**more: object) -> str:
    import json

    return json.dumps([{"ClusterId": 5, "ProcId": 0, "IcpPilot": NAME, **more}]) + "\n"


@pytest.mark.parametrize("status", [*CONDOR, 99])
def test_status_of_condor(status: int) -> None:
    found = parse_queue(0, ad(JobStatus=status), "", LEDGER)
    assert isinstance(found, dict)
    assert found[A].word == CONDOR.get(status, "unknown")
    assert bool(found[A].never) == (status == 5)


def test_condor_history_of_what_was_removed_has_no_exit() -> None:
    found = parse_history(0, ad(JobStatus=3, ExitCode=0, RemoveReason="via condor_rm (by user alice)", RemoteWallClockTime=20.0, CpusProvisioned=4), "", LEDGER)
    assert found == {A: Known("ended", "removed: via condor_rm (by user alice)", None, "5.0")}
    assert isinstance(found, dict)
    assert found[A].core_seconds == 80.0


def test_condor_job_that_began_again_says_so() -> None:
    said = "begun 2 times: what it did before it was put off its machine is done again"
    assert parse_queue(0, ad(JobStatus=2, NumJobStarts=2), "", LEDGER)[A].reason == said
    assert parse_queue(0, ad(JobStatus=2, NumJobStarts=1), "", LEDGER)[A].reason == ""
    assert parse_queue(0, ad(JobStatus=1, NumJobStarts=1), "", LEDGER)[A].reason == "it was put off its machine, and begins again"
    assert parse_history(0, ad(JobStatus=4, ExitCode=0, NumJobStarts=2), "", LEDGER)[A].reason == f"completed; {said}"


def test_condor_job_that_was_held_and_left_says_why_it_was_held() -> None:
    found = parse_history(0, ad(JobStatus=3, HoldReason="disk full", RemoveReason="The job attribute PeriodicRemove ..."), "", LEDGER)
    assert isinstance(found, dict)
    assert found[A].reason == "removed: disk full"


def listed(state: str, behind: str = "") -> str:
    row = f"<job_list><JB_job_number>6</JB_job_number><JB_name>{NAME}</JB_name><state>{state}</state></job_list>"
    return f"<job_info><queue_info/><job_info>{row}</job_info>\n</job_info>\n{behind}"


def test_grid_engine_entities_are_refused() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "b">]>' + listed("r")
    assert isinstance(parse_qstat(0, bomb, "", LEDGER), Unknown)


def test_grid_engine_reason_that_is_turned_off_is_none() -> None:
    behind = "job_number:                 6\nscheduling info:            (Collecting of scheduler job information is turned off)\n"
    found = parse_qstat(0, listed("qw", behind), "", LEDGER)
    assert isinstance(found, dict)
    assert found[A] == Known("pending", "", None, "6")


def test_grid_engine_job_that_never_began_has_no_exit() -> None:
    text = f"====\njobname      {NAME}\njobnumber    6\nslots        4\nfailed       26  : opening input/output file\nexit_status  0\nru_wallclock 0s\nend\n"
    found = parse_qacct(0, text, "", LEDGER)
    assert found == {A: Known("ended", "failed 26: opening input/output file", None, "6")}


def test_a_grid_engine_that_has_written_no_accounting_has_none() -> None:
    said = "failed to read: 1\nsaid: /opt/sge/default/common/accounting: No such file or directory\nend\n"
    assert parse_qacct(0, said, "", LEDGER) is None
    broken = parse_qacct(0, said.replace("No such file or directory", "Stale file handle"), "", LEDGER)
    assert isinstance(broken, Unknown)
    assert "Stale file handle" in broken.why


@pytest.mark.parametrize(("text", "wanted"), [
    ("00:00:03", 3), ("1-02:03:04", 93784), ("03:04", 184), ("6s", 6), ("6.5", 6.5), ("00:01.250", 1.25), ("", None), ("x", None),
])  # fmt: skip
def test_times(text: str, wanted: float | None) -> None:
    assert seconds(text) == wanted

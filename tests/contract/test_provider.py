"""What pilots need of a provider of Parsl's, whatever the release: rendered here, submitted elsewhere, replayed; nothing runs here."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

import icp.backends.parsl_provider as provider
from icp.backends.base import Result, Unknown
from icp.backends.parsl_provider import cancel_argv, cancel_name_argv, job_id, options_of, render
from icp.errors import BadInput
from icp.model.batch import NotSubmitted, Submitted, Unclear, Wanted

GOLDEN = Path(__file__).parents[1] / "golden" / "slurm"
WANTED = Wanted(
    "icp-0a1b2c3d-0123456789abcdef", "/data/icp/spool/pilots/0123456789abcdef", cpus=4, memory=8_000_000_000, gpus=1, walltime=5430,
    partition="normal", account="lab", qos="long", constraint="a100|(v100&ib)",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_runs_here(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Neither ssh nor sacct nor sbatch: whoever wants to run a command on this machine fails."""
    if request.node.get_closest_marker("lab"):
        return

    def refuse(*words: Any, **options: Any) -> Any:
        raise AssertionError(f"runs here: {words!r}")

    monkeypatch.setattr("parsl.utils.execute_wait", refuse)
    monkeypatch.setattr("parsl.providers.cluster_provider.execute_wait", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("os.system", refuse)


def directives(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if line.startswith("#SBATCH"))


@pytest.mark.parametrize(("name", "wanted"), [
    ("submit", WANTED),
    ("submit-least", Wanted(WANTED.name, WANTED.folder)),
    ("submit-nodes", dataclasses.replace(WANTED, nodes=3, options={"scheduler_options": "#SBATCH --licenses=geant:1\n#SBATCH -x bad1"})),
])  # fmt: skip
def test_directives_as_recorded(name: str, wanted: Wanted) -> None:
    got = directives(render("slurm", wanted).files["submit.sh"])
    assert got == (GOLDEN / f"{name}.directives").read_text().splitlines()


def test_script_hands_over_to_the_pilot_and_is_the_same_every_time(tmp_path: Path) -> None:
    one, other = render("slurm", WANTED), render("slurm", WANTED)
    assert one == other
    assert one.argv[0] == "env"
    assert one.argv[-2:] == ("sbatch", "{dir}/submit.sh")
    assert list(one.files) == ["submit.sh"]
    assert one.files["submit.sh"].rstrip().splitlines()[-1] == f"exec /bin/sh {WANTED.folder}/pilot.sh"
    assert str(tmp_path.parent) not in one.files["submit.sh"]
    assert "/tmp" not in one.files["submit.sh"]


def test_several_nodes_get_one_pilot_each() -> None:
    text = render("slurm", dataclasses.replace(WANTED, nodes=3)).files["submit.sh"]
    (line,) = [line for line in text.splitlines() if line.startswith("srun ")]
    assert "--nodes=3 --ntasks-per-node=1 --cpus-per-task=4" in line
    assert "trap : TERM" in text


def test_persons_environment_does_not_overrule_the_script() -> None:
    argv = render("slurm", WANTED).argv
    for name in ("SBATCH_PARTITION", "SBATCH_ACCOUNT", "SBATCH_REQUEUE", "SBATCH_JOB_NAME", "SBATCH_EXCLUSIVE"):
        assert name in argv
    assert "SBATCH_ACCOUNT" not in render("slurm", dataclasses.replace(WANTED, account=None)).argv


@pytest.mark.parametrize(("code", "out", "err", "wanted"), json.loads((GOLDEN / "submits.json").read_text()))
def test_receipts_as_recorded(code: int | None, out: str, err: str, wanted: str) -> None:
    found = job_id("slurm", code, out, err)
    if wanted.startswith("submitted "):
        assert found == Submitted(wanted.removeprefix("submitted "))
    elif wanted == "unknown":
        assert isinstance(found, Unclear)
    else:
        assert isinstance(found, NotSubmitted)
        assert wanted.removeprefix("again: ") in found.why
        assert found.again == wanted.startswith("again: ")
        assert found.hint


def test_cancel_is_captured_too() -> None:
    assert cancel_argv("slurm", ["42", "43"]) == ["scancel", "42", "43"]
    assert cancel_name_argv(WANTED.name) == ["scancel", f"--name={WANTED.name}"]
    for wrong in ("4 2", "-u", "", "42;x"):
        with pytest.raises(BadInput):
            cancel_argv("slurm", [wrong])


@pytest.mark.parametrize(("change", "said"), [
    ({"partition": "q; touch x"}, "pilot.partition"),
    ({"partition": "-n"}, "pilot.partition"),
    ({"account": "a b"}, "pilot.account"),
    ({"qos": "$(id)"}, "pilot.qos"),
    ({"constraint": "a\n#SBATCH --exclusive"}, "pilot.constraint"),
    ({"folder": "/data/my files"}, "without blanks"),
    ({"folder": "relative"}, "absolute path"),
    ({"folder": "/data/%j"}, "absolute path"),
    ({"walltime": 0}, "pilot.walltime"),
    ({"options": {"cluster": "x"}}, "did you mean options.clusters?"),
    ({"options": {"walltim": "x"}}, "did you mean pilot.walltime?"),
    ({"options": {"partition": "x"}}, "write it as pilot.partition"),
    ({"options": {"max_block": 3}}, "there are clusters, exclusive"),
    ({"options": {"launcher": "x"}}, "no such option"),
    ({"options": {"clusters": "a;b"}}, "options.clusters"),
    ({"options": {"exclusive": "yes"}}, "exclusive"),
    ({"options": {"scheduler_options": "rm -rf /"}}, "expected lines such as"),
    ({"options": {"scheduler_options": "#SBATCH --requeue"}}, "pilots decide this themselves"),
    ({"options": {"scheduler_options": "#SBATCH --comment=`id`"}}, "expected lines such as"),
])  # fmt: skip
def test_what_could_be_more_than_a_value_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        render("slurm", dataclasses.replace(WANTED, **change))
    assert said in caught.value.message


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        render("slurm", dataclasses.replace(WANTED, partition="a b", account="c d", options={"x": 1}))
    assert len(caught.value.mistakes) == 3


def test_unknown_scheduler() -> None:
    with pytest.raises(BadInput, match="no scheduler 'slum'"):
        render("slum", WANTED)


def test_sites_may_give_whole_nodes() -> None:
    assert "#SBATCH --exclusive" in render("slurm", dataclasses.replace(WANTED, options={"exclusive": True})).files["submit.sh"]
    assert "exclusive" in options_of("slurm")


# -- what is relied on in Parsl itself ---------------------------------------------------------------------------


def test_providers_run_commands_by_execute_wait_alone() -> None:
    for cls in provider.SCHEDULERS.values():
        tree = ast.parse(inspect.getsource(inspect.getmodule(cls)))  # type: ignore[arg-type]
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not [one for one in calls if re.match(r"subprocess|os\.(system|popen|kill|spawn|exec)|execute_wait$", one)]


def test_execute_wait_has_the_signature_that_is_replaced() -> None:
    from parsl.providers.cluster_provider import ClusterProvider

    assert list(inspect.signature(ClusterProvider.execute_wait).parameters) == ["self", "cmd", "timeout"]


# -- a real one --------------------------------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.timeout(450)
def test_rendered_pilot_runs_at_a_real_cluster_and_is_found_and_cancelled(nsb: Any) -> None:
    from icp.backends.batch.slurm import combine, parse_sacct, parse_squeue, sacct_argv, squeue_argv
    from icp.backends.openssh import OpenSSH
    from icp.backends.ssh_socket import control_folder
    from icp.places import places

    over = OpenSSH(nsb.name, control_folder(places().state), config=nsb.lab.ssh_config)

    def run(argv: list[str]) -> Result:
        outcome = over.run(argv, b"", 30)
        assert isinstance(outcome, Result)
        return outcome

    pilot, ledger = "00000000000000f1", "0a1b2c3d"
    folder = f"/home/alice/pilots/{pilot}"
    wanted = Wanted(f"icp-{ledger}-{pilot}", folder, nodes=2, cpus=2, memory=10**9, walltime=240, partition="normal", account="lab")
    captured = render("slurm", wanted)
    body = "#!/bin/sh\necho node $SLURM_PROCID cpus $SLURM_CPUS_PER_TASK\nexec sleep 60\n"
    run(["mkdir", "-p", folder])
    for name, text in {**captured.files, "pilot.sh": body}.items():
        outcome = over.run(["/bin/sh", "-c", f"cat > {shlex.quote(folder + '/' + name)}"], text.encode(), 30)
        assert isinstance(outcome, Result)
    # the person's own defaults must not move the job
    argv = ["env", "SBATCH_PARTITION=debug", "SBATCH_TIMELIMIT=1", *(word.replace("{dir}", folder) for word in captured.argv)]
    sent = run(argv)
    got = job_id("slurm", sent.code, sent.out.decode(), sent.err.decode())
    assert isinstance(got, Submitted)

    def ask() -> dict[str, Any]:
        listing, accounting = run(squeue_argv()), run(sacct_argv([got.job]))
        found = combine(
            parse_squeue(listing.code, listing.out.decode(), "", ledger), parse_sacct(accounting.code, accounting.out.decode(), "", ledger)
        )
        assert not isinstance(found, Unknown)
        return found

    import time

    end = time.monotonic() + 300  # nodes that died in another test come back when the batch system notices
    while run(["/bin/sh", "-c", f"cat {folder}/stdout"]).out.count(b" cpus 2") < 2:
        assert time.monotonic() < end, nsb.inside("sh", "-c", "squeue -a; sinfo -N -l").stdout
        time.sleep(0.2)
    assert ask()[pilot].word == "running"
    said = run(["squeue", "-h", "-j", got.job, "-o", "%P %l"]).out
    assert said == b"normal 4:00\n"
    assert {b"0: node 0 cpus 2", b"1: node 1 cpus 2"} <= set(run(["cat", f"{folder}/stdout"]).out.splitlines())
    assert run(cancel_argv("slurm", [got.job])).code == 0
    # MinJobAge is 2 s here: squeue forgets, the accounting remembers, and in between nobody says that it went well
    while True:
        known = ask().get(pilot)
        assert known is None or known.exit != 0
        if known is not None and known.word == "ended" and "CANCELLED by" in known.reason:
            break
        assert time.monotonic() < end
        time.sleep(0.3)
    over.close()

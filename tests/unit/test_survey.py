"""What a host shows, read from what it printed: real login nodes of the lab, and the shapes of large centres."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from icp.backends.base import Result
from icp.backends.survey import Survey, look, read, script
from icp.backends.survey.batch import LOOKS, Account, Batch
from icp.backends.survey.slurm import accounts, partitions, seconds
from icp.backends.transport import LocalTransport
from icp.engine.proposal import Asked, choices, propose
from icp.errors import BadInput

GOLDEN = Path(__file__).parents[1] / "golden" / "survey"


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


def survey(name: str) -> Survey:
    return read(Result(0, (GOLDEN / f"{name}.out").read_bytes(), b""))


def centre() -> Survey:
    """A large centre, on the login node of a small one."""
    batch = Batch(
        "23.11", partitions(golden("centre-nodes.txt"), golden("centre-partitions.txt")), accounts(golden("centre-assoc.txt"), "m2_phys", "big"), True
    )
    return replace(survey("nsb"), batch=batch)


def test_a_cluster_without_accounting_as_it_shows_itself() -> None:
    found = survey("nsa")
    assert (found.user, found.host, found.home, found.scheduler, found.batch.version) == ("alice", "nsa-login", "/home/alice", "slurm", "22.05.8")
    assert [(one.name, one.default, one.open, one.limit, one.nodes, one.cpus, one.memory) for one in found.batch.partitions] == [
        ("normal", True, True, 86400, 2, 8, 16000 * 2**20),
        ("debug", False, True, 300, 1, 8, 16000 * 2**20),
    ]
    assert (found.batch.accounting, found.batch.accounts, found.batch.trouble) == (False, (), "")
    assert found.python == "/usr/bin/python3"
    assert found.path is None
    assert found.disks[0].writable
    assert found.disks[0].free


def test_a_cluster_with_accounting_shows_its_accounts() -> None:
    found = survey("nsb")
    assert found.batch.accounts == (Account("lab", True, None, ("normal",), None),)
    assert found.batch.accounting is True
    assert found.batch.need_account


@pytest.mark.parametrize(
    ("text", "value"),
    [("1-00:00:00", 86400), ("30:00", 1800), ("5:00", 300), ("12:00:00", 43200), ("45", 2700), ("2-12", 216000), ("infinite", None), ("", None), ("n/a", None)],
)
def test_times_of_slurm(text: str, value: int | None) -> None:
    assert seconds(text) == value


def test_partitions_of_a_large_centre() -> None:
    found = {one.name: one for one in centre().batch.partitions}
    assert next(iter(found)) == "batch"
    assert (found["batch"].nodes, found["batch"].cpus, found["batch"].largest, found["batch"].memory) == (1240, 48, 96, 191000 * 2**20)
    assert (found["gpu"].gpus, found["gpu"].nodes, found["gpu"].accounts) == (4, 72, ("m2_gpu", "m3_ml"))
    assert not found["long"].open
    assert not found["admin"].open
    assert (found["shared"].limit, found["shared"].cpus) == (None, 64)


def test_accounts_of_other_clusters_are_not_ours() -> None:
    found = centre().batch.accounts
    assert [one.name for one in found] == ["m2_phys", "m3_ml", "m2_gpu"]
    assert found[1] == Account("m3_ml", False, "gpu", ("gpu",), 43200)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"pilot.partition": "batch", "pilot.account": "m2_phys", "pilot.cpus": 8, "pilot.memory": "33 GB", "pilot.walltime": "8 h"}),
        ({"partition": "devel"}, {"pilot.partition": "devel", "pilot.walltime": "30 min"}),
        ({"partition": "gpu", "gpus": 4}, {"pilot.account": "m3_ml", "pilot.gpus": 4}),
        ({"partition": "gpu", "account": "m2_gpu", "walltime": "1 d"}, {"pilot.account": "m2_gpu", "pilot.walltime": "1 d"}),
        ({"partition": "shared"}, {"pilot.cpus": 8, "pilot.memory": None}),
        ({"max": 1}, {"pilot.max": 1, "pilot.max_pending": 1}),
        ({"root": "~/data/icp"}, {"root": "/home/alice/data/icp"}),
        ({"host": None}, {"host": None, "root": "/home/alice/.icp/x"}),
    ],
)
def test_defaults_are_modest_and_hold_every_limit(asked: dict, expected: dict) -> None:
    keys = propose(centre(), Asked("x", **{"host": "x", **asked})).keys
    assert {name: keys.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"partition": "batc"}, ["no such partition", "batch, gpu, devel"]),
        ({"partition": "long"}, ["closed"]),
        ({"partition": "gpu", "account": "m2_phys"}, ["open to the accounts m2_gpu, m3_ml only", "m2_phys"]),
        ({"partition": "batch", "account": "m3_ml"}, ["cannot be used in the partition batch", "gpu"]),
        ({"partition": "gpu", "walltime": "13 h"}, ["the limit of the account m3_ml is 12 h"]),
        ({"gpus": 1}, ["the partition batch has none", "gpu"]),
        ({"partition": "gpu", "gpus": 8}, ["nodes with 4"]),
        ({"cpus": 200}, ["96 at the most"]),
        ({"walltime": "soon"}, ["expected a time"]),
        ({"walltime": "30"}, ["a minute or more"]),
        ({"memory": "much"}, ["expected a size"]),
    ],
)
def test_what_does_not_fit_is_one_sentence_with_what_does(asked: dict, words: list) -> None:
    with pytest.raises(BadInput) as caught:
        propose(centre(), Asked("x", "x", **asked))
    said = f"{caught.value.message} {caught.value.hint}"
    for word in words:
        assert word in said


def test_several_accounts_and_partitions_are_questions_and_closed_ones_no_answer() -> None:
    asked = choices(centre(), Asked("x", "x"))
    assert [(one.option, one.default) for one in asked] == [("--partition", "batch"), ("--account", "m2_phys")]
    assert "long" not in asked[0].answers
    assert choices(centre(), Asked("x", "x", partition="gpu", account="m2_gpu")) == []


def test_a_batch_system_that_does_not_answer_makes_no_site() -> None:
    text = golden("nsa.out")
    begin = text.index("@@ slurm.nodes")
    said = "@@ slurm.nodes\nslurm_load_partitions: Unable to contact slurm controller (connect failure)\n\n@@rc 1\n"
    down = text[:begin] + said + text[text.index("@@ slurm.config") :]
    found = read(Result(0, down.encode(), b""))
    with pytest.raises(BadInput, match=r"does not answer .*Unable to contact slurm controller"):
        propose(found, Asked("x", "x"))


def test_no_python_is_told_before_anything_is_written() -> None:
    with pytest.raises(BadInput, match=r"no Python 3\.6 or newer"):
        propose(replace(survey("nsa"), python=None, python_version=None), Asked("x", "x"))


def test_what_only_a_login_shell_finds_gives_its_path_to_pilots() -> None:
    found = replace(survey("nsa"), path="/opt/slurm/bin:/usr/bin", path_for=("sbatch",))
    proposal = propose(found, Asked("x", "x"))
    assert proposal.keys["env.PATH"] == "/opt/slurm/bin:/usr/bin"
    assert any("sbatch" in note for note in proposal.notes)


def test_a_partition_that_is_asked_for_where_there_is_no_batch_system() -> None:
    bare = replace(survey("nsa"), scheduler="none", batch=Batch())
    with pytest.raises(BadInput, match="no batch system"):
        propose(bare, Asked("x", "x", partition="normal"))
    assert propose(bare, Asked("x", "x")).keys["pilot.cpus"] == bare.cpus


def test_an_answer_that_is_none_is_an_error_of_one_sentence() -> None:
    with pytest.raises(BadInput, match="could not be looked at: This account is not available"):
        read(Result(1, b"", b"This account is not available.\n"))


def test_the_script_finds_programs_that_only_a_login_shell_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text("#!/bin/sh\necho slurm 99\n")
    (tools / "sinfo").write_text("#!/bin/sh\necho 'one|up|1:00:00|3|4|8000|(null)|one*'\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (Path.home() / ".bash_profile").write_text(f"echo noise\nPATH={tools}:$PATH\nSCRATCH={tmp_path}\n")
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("sh", "bash", "sed", "tail", "id", "uname", "getconf", "timeout", "head", "rm", "df", "stat", "dirname", "env", "printf", "python3", "grep"):
        for folder in ("/bin", "/usr/bin"):
            if Path(folder, name).exists() and not (bare / name).exists():
                (bare / name).symlink_to(Path(folder, name))
    monkeypatch.setenv("PATH", str(bare))
    found = look(LocalTransport(), root=str(tmp_path / "deep" / "spool"))
    assert isinstance(found, Survey)
    assert found.scheduler == "slurm"
    assert "sbatch" in found.path_for
    assert str(tools) in (found.path or "")
    assert [(one.name, one.limit, one.nodes, one.cpus) for one in found.batch.partitions] == [("one", 3600, 3, 4)]
    disks = {one.name: one for one in found.disks}
    assert disks["SCRATCH"].path == str(tmp_path)
    assert disks["root"].writable
    assert not (tmp_path / "deep").exists()


def test_every_batch_system_is_looked_for_by_its_command() -> None:
    for one in LOOKS:
        assert one.command in script(None, None)
    assert "sbatch" not in script("none", None)

"""The questions of PBS as the shell of a site runs them, with commands that say what a real server said."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from icp.backends.base import Unknown
from icp.backends.batch import system
from icp.backends.batch.conformance import Specimen, load

GOLDEN = Path(__file__).parents[1] / "golden" / "pbs"
Answer = tuple[int, str, str]


@pytest.fixture
def specimen() -> Specimen:
    return load(GOLDEN, system("pbs"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("sh", "awk", "id", "cat"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    return tmp_path


def command(site: Path, name: str, text: str) -> None:
    (site / name).write_text(f"#!/bin/sh\n{text}\n")
    (site / name).chmod(0o755)


def asked(site: Path, specimen: Specimen) -> list[Answer]:
    questions = specimen.system.questions(specimen.ledger, list(specimen.left.values()), None)
    done = [subprocess.run(words, env={"PATH": str(site)}, capture_output=True, text=True, timeout=30, check=False) for words in questions]
    return [(one.returncode, one.stdout, one.stderr) for one in done]


def test_little_is_carried_and_tells_as_much_in_one_connection(site: Path, specimen: Specimen) -> None:
    assert specimen.accounting
    (site / "ended").write_text(specimen.accounting[1].removesuffix("icp: 0 all\n"))
    command(site, "qselect", "echo 1002.pbs1; echo 1003.pbs1")
    left = f'[ "$1 $2" = "-E -xf" ] && exec cat {site}/ended'
    command(site, "qstat", f'echo "$1" >>{site}/calls; {left}; [ "$*" = "-E -f 1002.pbs1 1003.pbs1" ] && cat {GOLDEN}/listing.out')
    answers = asked(site, specimen)
    assert [code for code, _, _ in answers] == [0, 0]
    assert specimen.system.states(specimen.ledger, answers, specimen.left) == specimen.asked()
    assert len(answers[0][1]) < len(specimen.listing[1]) / 3
    assert "Variable_List" not in answers[0][1] + answers[1][1]
    assert (site / "calls").read_text() == "-E\n-E\n"


def test_before_there_was_a_way_to_ask_once(site: Path, specimen: Specimen) -> None:
    assert specimen.accounting
    for record in re.split(r"^(?=Job Id: )", specimen.accounting[1].removesuffix("icp: 0 all\n"), flags=re.MULTILINE)[1:]:
        (site / f"said-{record.split()[2]}").write_text(record)
    command(site, "qselect", "echo 1002.pbs1; echo 1003.pbs1")
    old = """[ "$1" = -E ] && { echo "qstat: invalid option -- 'E'" >&2; echo "usage: qstat [-f] [-x] ..." >&2; exit 2; }"""
    unknown = 'echo "qstat: Unknown Job Id $2" >&2; exit 153'
    command(site, "qstat", f'{old}; [ "$1" = -f ] && exec cat {GOLDEN}/listing.out; cat {site}/said-$2 2>/dev/null || {{ {unknown}; }}')
    answers = asked(site, specimen)
    assert answers[0][0] == 0
    assert specimen.system.states(specimen.ledger, answers, specimen.left) == specimen.asked()


def test_nobody_has_jobs(site: Path, specimen: Specimen) -> None:
    command(site, "qselect", "exit 0")
    assert asked(site, specimen)[0] == (0, "", "")


@pytest.mark.parametrize("broken", ["qselect", "qstat", "awk"])
def test_what_fails_on_the_way_makes_nothing_known(site: Path, specimen: Specimen, broken: str) -> None:
    command(site, "qselect", "echo 1002.pbs1")
    command(site, "qstat", f"cat {GOLDEN}/listing.out")
    assert not isinstance(specimen.system.states(specimen.ledger, asked(site, specimen)[:1], {}), Unknown)
    (site / broken).unlink()
    if broken != "awk":
        command(site, broken, 'echo "Connection refused" >&2; exit 162')
    assert isinstance(specimen.system.states(specimen.ledger, asked(site, specimen)[:1], {}), Unknown)


def test_job_that_ended_between_the_commands_is_all_that_is_missing(site: Path, specimen: Specimen) -> None:
    command(site, "qselect", "echo 1002.pbs1; echo 9.pbs1")
    said = "qstat: 9.pbs1 Job has finished, use -x or -H to obtain historical job information"
    command(site, "qstat", f'cat {GOLDEN}/listing.out; echo "{said}" >&2; exit 35')
    answer = asked(site, specimen)[:1]
    assert answer[0][0] == 35
    assert specimen.system.states(specimen.ledger, answer, {}) == specimen.system.states(specimen.ledger, [specimen.listing], {})

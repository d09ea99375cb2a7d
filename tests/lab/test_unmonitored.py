"""Jobs that go straight to a real SLURM, in one session, and run there by themselves."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from icp.cli import main
from icp.places import places
from tests.lab.sites import LabSite, Sshd

pytestmark = pytest.mark.lab

SUBMIT = """executable = run.sh
arguments = $(Process)
transfer_input_files = in.txt
output = out.$(Process)
request_memory = 100
allowed_execute_duration = 120
queue 6
"""


def test_a_submit_file_of_htcondor_runs_in_slurm(nsa: LabSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_text("in\n")
    (tmp_path / "run.sh").write_text('#!/bin/sh\necho "job $1"; cat in.txt >"new.$1"\n')
    (tmp_path / "o.sub").write_text(SUBMIT)
    config = places().config
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'[ssh]\nconfig = "{nsa.lab.ssh_config}"\n[site.s]\nhost = "{nsa.name}"\nscheduler = "slurm"\nroot = "/home/alice/.icp/unmonitored"\n')
    assert main(["submit", "--unmonitored", "--site", "s", "--json", str(tmp_path / "o.sub")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["job"] for one in said["jobs"]] == list(range(6))
    assert all(one["batch"].isdigit() for one in said["jobs"])
    end = time.monotonic() + 90
    while nsa.ssh(f"ls {said['folder']}/*/result.json | wc -l").stdout.strip() != "6":
        assert time.monotonic() < end, nsa.ssh(f"cat {said['folder']}/*/std*").stdout
        time.sleep(0.5)
    found = nsa.ssh(f"cd {said['folder']}; cat 000004/main/out.4 000004/main/new.4; grep -l '\"r\": \"ok\"' */result.json | wc -l").stdout
    assert found == "job 4\nin\n6\n"
    sshd = Sshd(nsa)
    assert main(["submit", "--unmonitored", "--site", "s", "--json", str(tmp_path / "o.sub")]) == 0
    assert sshd.sessions == 1

"""A batch system that is silent at a site that answers: said wherever one looks, and nothing is believed of its pilots."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp.places import places

# as OpenPBS says it while its server is down
DOWN = "Connection refused\\nqselect: cannot connect to server pbs1 (errno=15010)\\n"
SAID = "qselect: cannot connect to server pbs1 (errno=15010)"


def command(where: Path, text: str) -> None:
    where.write_text(f"#!/bin/sh\n{text}\n")
    where.chmod(0o755)


@pytest.mark.long
def test_silent_batch_system_is_told_and_its_pilots_stay_as_they_were(tmp_path: Path, icp: Callable[..., Any]) -> None:
    pbs = tmp_path / "pbs"
    pbs.mkdir()
    command(pbs / "qsub", f'for file; do :; done; grep -o "icp-[0-9a-f]*-[0-9a-f]*" "$file" | head -n 1 >{pbs}/name; echo 7.pbs1')
    command(pbs / "qselect", f"[ -e {pbs}/up ] && exec echo 7.pbs1; printf '{DOWN}' >&2; exit 162")
    command(pbs / "qstat", f'printf "Job Id: 7.pbs1\\n    Job_Name = %s\\n    job_state = Q\\n\\n" "$(cat {pbs}/name)"')
    places().config.write_text(
        f'[site.there]\nscheduler = "pbs"\nroot = "{os.environ["ICP_HOME"]}/spools"\nenv.PATH = "{pbs}:{os.environ["PATH"]}"\n'
        '[site.there.pilot]\ncpus = 1\nmemory = "1 GB"\nwalltime = "1 h"\nmax = 1\n'
    )
    (tmp_path / "small.toml").write_text('command = "true"\nresources = { memory = "10 MB", disk = "1 MB", time = "1 min" }\n')
    assert icp("submit", "small.toml").rc == 0
    for _ in range(3):
        assert icp("run", "--once").rc == 0
    for words in (("status",), ("site", "show", "there"), ("why", "there")):
        told = icp(*words).out
        assert "its batch system does not answer" in told, words
        assert SAID in told, words
    assert "7.pbs1" in icp("site", "show", "there").out
    assert "1 pending" in icp("status").out
    (pbs / "up").touch()
    assert icp("run", "--once").rc == 0
    assert "does not answer" not in icp("status").out + icp("site", "show", "there").out
    assert "1 pending" in icp("status").out

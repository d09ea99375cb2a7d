"""`icp doctor` on this machine: each line says what was found and what it means, and what is in the way is the exit code."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp.ledger.db import open_ledger
from icp.places import places

Icp = Callable[..., Any]


def found(ran: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["about"], one["name"]): one for one in json.loads(ran.out)}


def test_this_machine_and_its_site_are_looked_at_and_nothing_is_submitted(icp: Icp) -> None:
    ran = icp("doctor", "--json")
    assert ran.rc == 0, ran
    by = found(ran)
    for name in ("python", "sqlite", "ledger", "disk", "ticks", "notify"):
        assert ("this machine", name) in by
    for name in ("python", "home", "tmp", "root", "egress", "namespaces", "fuse", "cvmfs", "parrot", "scheduler", "worker"):
        assert ("site local", name) in by
    assert all(one["found"] and one["means"] for one in by.values())
    assert by["this machine", "ticks"]["ok"] is None
    assert "icp site check local" in by["site local", "worker"]["means"]
    assert not places().ledger.exists()
    text = icp("doctor").out
    assert text.startswith("this machine\n")
    assert "icp cron install" in text


def test_workers_are_as_the_last_check_found_them_and_it_says_when(icp: Icp) -> None:
    assert icp("site", "check", "local").rc == 0
    before = time.time()
    by = found(icp("doctor", "local", "--json"))
    assert not [about for about, _ in by if about == "this machine"]
    for name in ("sees", "lag", "locks", "clock", "namespaces", "fuse", "egress"):
        assert by["site local", f"worker: {name}"]["at"] <= before
    assert "(found " in icp("doctor", "local").out


def test_what_is_in_the_way_is_the_exit_code(icp: Icp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    places().config.write_text(f'[site.here]\nroot = "{tmp_path}/file/spool"\n')
    ran = icp("doctor", "here")
    assert ran.rc == 1, ran
    assert "  no " in ran.out
    (tmp_path / "s.toml").write_text('name = "x"\ncommand = "true"\n')
    places().config.unlink()
    assert icp("submit", "s.toml").rc == 0
    ledger = open_ledger(places().ledger)
    with ledger.write():
        ledger.set_meta("last_tick", time.time() - 7200)
    ledger.close()
    ran = icp("doctor")
    assert ran.rc == 1
    assert "the last tick was 2.0 h ago" in ran.out
    assert icp("doctor", "nowhere").rc == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_cannot_be_written_is_told(icp: Icp, tmp_path: Path) -> None:
    (tmp_path / "spools").mkdir(mode=0o500)
    places().config.write_text(f'[site.here]\nroot = "{tmp_path}/spools"\n')
    assert icp("doctor", "here").rc == 1

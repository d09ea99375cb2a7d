"""The main job at three sites while everything on the way dies: its result must be that of an undisturbed run on this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.lab.muons_home import Muons, Result, undisturbed
from tests.lab.sites import LabSite

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SEED, JOBS = 20, 12
Make = Callable[..., Muons]


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Result]:
    """The result of so many jobs on this machine alone: computed once, whatever the number of test processes."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):
        shared = shared.parent

    def of(jobs: int) -> Result:
        kept = shared / f"muons-{jobs}.json"
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                kept.write_text(undisturbed(tmp_path_factory.mktemp("golden"), SEED, jobs).to_json())
            return Result.from_json(kept.read_text())

    return of


@pytest.fixture
def make(tmp_path: Path, broken_nsa: LabSite, broken_nsb: LabSite) -> Iterator[Make]:
    homes: list[Muons] = []

    def one(sites: dict[str, LabSite] | None = None, **options: Any) -> Muons:
        options = {"jobs": JOBS, "seed": SEED, "gpu": "nsb" if sites is None else None, **options}
        homes.append(Muons(tmp_path / f"home{len(homes)}", sites or {"nsa": broken_nsa, "nsb": broken_nsb}, **options))
        return homes[-1]

    yield one
    for home in homes:
        home.close()


def test_three_sites_undisturbed(make: Make, golden: Callable[[int], Result]) -> None:
    home = make()
    with home.running():
        pass
    home.assert_all(golden(JOBS))

"""What tests of the disturbed main job and of pilots share: homes and spools that leave no process behind, and the result of an undisturbed run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from main_job import Home, Result
from pilot_site import Site, old_python, sites


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """Makes homes below ``tmp_path`` by name."""
    homes: list[Home] = []

    def make(name: str = "one", **options: Any) -> Home:
        homes.append(Home(tmp_path / name, **options))
        return homes[-1]

    yield make
    for one in homes:
        one.close()


@pytest.fixture
def home(make_home: Callable[..., Home]) -> Home:
    """A home with the small dataset submitted, nothing begun."""
    made = make_home()
    made.submit()
    return made


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The small dataset's result when nobody disturbs it: computed once, whatever the number of test processes."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):
        shared = shared.parent
    kept = shared / "golden.json"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            one = Home(tmp_path_factory.mktemp("golden"))
            try:
                one.submit()
                one.run()
                one.assert_result(one.result())
                kept.write_text(one.result().to_json())
            finally:
                one.close()
        return Result.from_json(kept.read_text())


@pytest.fixture(params=["this", "3.6"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A spool whose pilots run under this Python, and one whose run under the oldest that there may be."""
    python = sys.executable if request.param == "this" else old_python()
    if python is None:
        pytest.skip("no Python 3.6 was found in PATH or ~/.pyenv: the pilot was not tried under it")
    yield from sites(tmp_path, python)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    """A spool whose pilots run under this Python."""
    yield from sites(tmp_path)

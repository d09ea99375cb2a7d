"""Sites of the lab, and what undisturbed work comes to, as fixtures."""

from collections.abc import Callable

import pytest
from filelock import FileLock

from tests.lab.muons_home import SEED, Result, undisturbed
from tests.lab.sites import _nsa, _nsb, broken_nsa, broken_nsb, lab, nsa, nsb

__all__ = ["_nsa", "_nsb", "broken_nsa", "broken_nsb", "golden", "lab", "nsa", "nsb"]


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Result]:
    """The result of so many jobs of examples/muons on this machine alone: computed once, whatever the number of test processes."""
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

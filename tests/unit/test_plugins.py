"""A batch system that others wrote: found by its entry point, held to the same rows."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from icp.backends.batch import system
from icp.backends.batch.conformance import ROWS, load
from icp.config.keys import checked
from icp.errors import BadInput

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def installed(where: Path, value: str = "minibatch:MiniBatch") -> None:
    """The example of the page, as pip would leave it."""
    (code,) = re.findall(r"```python\n(\"\"\"MiniBatch.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (where / "minibatch.py").write_text(code)
    info = where / "minibatch-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: minibatch\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[icp.batch_systems]\nmini = {value}\n")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "minibatch", raising=False)
    importlib.invalidate_caches()
    return tmp_path


def test_example_of_the_page_is_found_and_holds_every_row(plugins: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    installed(plugins)
    mini = system("mini")
    assert mini.name == "mini"
    assert checked("scheduler", "mini") == "mini"
    folder = tmp_path_factory.mktemp("golden")
    for name, text in re.findall(r"`([a-z]+\.(?:out|json))`:\n\n```\w*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        (folder / name).write_text(text)
    specimen = load(folder, mini)
    for row in ROWS:
        row(specimen)


def test_plug_in_that_is_broken_is_a_sentence(plugins: Path) -> None:
    installed(plugins, "minibatch:NoSuch")
    with pytest.raises(BadInput, match="plug-in minibatch:NoSuch cannot be loaded"):
        system("mini")


def test_name_that_nobody_has_lists_those_that_are_there(plugins: Path) -> None:
    installed(plugins)
    with pytest.raises(BadInput) as caught:
        system("slum")
    assert "slurm" in str(caught.value.hint)
    assert "mini" in str(caught.value.hint)
    with pytest.raises(ValueError, match="one of none, slurm"):
        checked("scheduler", "slum")


def test_ours_cannot_be_replaced(plugins: Path) -> None:
    installed(plugins)
    (plugins / "minibatch-1.0.dist-info" / "entry_points.txt").write_text("[icp.batch_systems]\nslurm = minibatch:MiniBatch\n")
    assert type(system("slurm")).__module__ == "icp.backends.batch.slurm"

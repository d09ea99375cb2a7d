"""The house stands as its pages say: rooms, layers, old Pythons, what a quick look loads and costs."""

from __future__ import annotations

import importlib.util
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 500  # lines of a module; about 400 is meant


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_architecture_names_every_room_and_no_other() -> None:
    rooms = tool("rooms")
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folder, named = "", set()
    for line in page.splitlines():
        if line.startswith("**icp"):
            folder = line.strip("*")
        elif line.startswith("| `"):
            named.add(folder + line.split("`")[1])
    assert named == {str(path) for path in rooms.modules()}, "run `make docs`"
    assert page == rooms.page(), "run `make docs`"


def test_layers_on_the_page_are_those_that_are_held() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = page.split("## The layers")[1].split("```")[1].split()
    held = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("layers = [")[1].split("]")[0]
    wanted = [word.strip('",') for word in held.split() if word.strip('",') != "__main__" and "(" not in word]
    assert [word for word in block if word != "|"] == [word for word in wanted if word != "|"]


def test_imports_keep_to_the_contracts() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [str(path) for path in tool("rooms").modules()])
def test_module_says_what_it_is_and_is_of_a_size_to_read(path: str) -> None:
    what, _ = tool("rooms").room(Path(path))
    assert what
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "ARCHITECTURE.md", "docs/README.md"])
def test_links_of_the_pages_lead_somewhere(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    for target in (part.split(")")[0].split("#")[0] for part in text.split("](")[1:]):
        if target and "://" not in target:
            assert ((ROOT / path).parent / target).exists(), f"{path} links to {target}"


@pytest.mark.parametrize("path", sorted(str(one.relative_to(ROOT)) for one in (ROOT / "docs").glob("*.md")))
def test_table_of_documents_has_every_page(path: str) -> None:
    if path != "docs/README.md":
        assert f"({Path(path).name})" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")


def old_pythons() -> list[str]:
    """Pythons before 3.10: in PATH, and where pyenv has them."""
    found = []
    for name in ("python2.7", *(f"python3.{minor}" for minor in range(6, 10))):
        here = [str(path) for path in sorted(Path.home().glob(f".pyenv/versions/*/bin/{name}"))]
        for candidate in filter(None, [*here, shutil.which(name)]):
            if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
                found.append(candidate)
                break
    return found


@pytest.mark.parametrize("words", [["-m", "icp", "status"], [str(ROOT / "tools" / "one_file_main.py"), "status"]])
def test_python_that_is_too_old_is_told_in_one_sentence(words: list[str]) -> None:
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no Python before 3.10 is here")
    for python in pythons:
        done = subprocess.run([python, "-B", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("icp needs Python 3.10 or newer, and this is Python ")
        assert done.stderr.count("\n") == 1


@pytest.fixture
def ledger() -> None:
    from icp import config
    from icp.ledger.db import open_ledger

    open_ledger(config.load().ledger, create=True).close()


@pytest.mark.usefixtures("ledger")
def test_status_loads_only_what_it_shows() -> None:
    code = "import sys; from icp.cli import main; rc = main(['status']); print(rc, *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rc, *loaded = done.stderr.split()
    assert rc == "0"
    tops = {name.partition(".")[0] for name in loaded}
    assert not tops & {"parsl", "httpx", "asyncio", "pydantic", "click", "requests", "pygments", "markdown_it"}
    assert not [name for name in loaded if name.startswith(("icp.engine", "icp.backends", "icp.dsl", "icp.planner"))]


def cost(command: list[str]) -> float:
    """User and system seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.long
@pytest.mark.usefixtures("ledger")
def test_status_starts_about_as_fast_as_its_libraries_are_imported() -> None:
    status = [sys.executable, "-m", "icp", "status"]
    bare = [sys.executable, "-c", "import typer, rich.table"]
    rounds = [(cost(status), cost(bare)) for _ in range(15)]
    ours, theirs = (min(column) for column in zip(*rounds, strict=True))
    assert ours <= 1.5 * theirs, f"icp status {ours:.3f} s, python -c 'import typer, rich.table' {theirs:.3f} s"

"""Every command exists, explains itself with an example, and is in docs/commands.md; errors are one sentence; exit codes hold."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from icp import cli

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = dict(cli.walk())
LISTS = ("status", "jobs", "tasks", "stats", "outputs", "why", "show", "expand", "graph", "validate", "ledger check", "config show",
         "site list", "site show", "site check", "site add", "provenance", "verify", "export", "rerun", "gc")


def sentence_of(error: str) -> str:
    first, *_ = error.splitlines()
    assert first.startswith("icp: "), error
    assert "Traceback" not in error
    return first


def test_help_lists_every_command_and_imports_none(icp: Callable[..., Any]) -> None:
    code = "import sys; from icp.cli import main; main(['--help']); print(*[m for m in sys.modules if m.startswith('icp.commands')], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for panel, rows in cli.PANELS.items():
        assert f"\n{panel}:\n" in done.stdout
        for name, (_, line) in rows.items():
            assert f"  {name} " in done.stdout
            assert line in done.stdout
    assert not done.stderr.strip()
    assert icp().out == icp("-h").out == done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_command_explains_itself_with_an_example(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert text.splitlines()[0].endswith((".", ":")) or "icp " in text.splitlines()[0]
    assert f"icp {name}" in text, f"the help of icp {name} has no example"
    for option in COMMANDS[name].params:
        assert getattr(option, "help", None), f"icp {name}: {option.name} has no help"


@pytest.mark.parametrize("name", LISTS)
def test_what_shows_something_has_json(name: str) -> None:
    assert any("--json" in option.opts for option in COMMANDS[name].params)


def test_page_of_commands_is_current() -> None:
    path = ROOT / "docs" / "generate_commands.py"
    spec = importlib.util.spec_from_file_location("generate_commands", path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    page = generator.page()
    assert path.with_name("commands.md").read_text(encoding="utf-8") == page, "run `make docs`"
    for name in COMMANDS:
        assert f"\n### icp {name}\n" in page


def test_unknown_command_names_the_nearest(icp: Callable[..., Any]) -> None:
    ran = icp("submti")
    assert ran.rc == 2
    assert "submti" in sentence_of(ran.err)
    assert "'submit'" in sentence_of(ran.err)


def test_unknown_option_is_one_sentence_and_a_hint(icp: Callable[..., Any]) -> None:
    ran = icp("validate", "--jsn", "x.toml")
    assert ran.rc == 2
    assert "--jsn" in sentence_of(ran.err)
    assert "hint: icp validate --help" in ran.err


def test_what_is_not_there_is_code_3_and_no_traceback(icp: Callable[..., Any]) -> None:
    ran = icp("status")
    assert ran.rc == 3
    assert "no ledger" in sentence_of(ran.err)
    assert "hint: " in ran.err


def test_a_word_in_another_encoding_is_one_sentence(icp: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('name = "one"\njobs = 1\n[task.a]\ncommand = "true"\n')
    assert icp("submit", str(tmp_path / "one.toml")).rc == 0
    ran = icp("status", os.fsdecode(b"m\xfcons"))
    assert (ran.rc, ran.err.splitlines()[0]) == (2, r"icp: b'm\xfcons' is not UTF-8 text, and every name here is")


def test_mistakes_come_one_a_line(icp: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('jobs = "x"\ncommnd = "true"\noutputs = 3\n')
    ran = icp("validate", "bad.toml")
    assert ran.rc == 2
    assert sum(line.strip().startswith("bad.toml:") for line in ran.err.splitlines()) >= 3


@pytest.mark.parametrize("words", [("--debug", "status"), ("status", "--debug")])
def test_debug_shows_the_traceback(icp: Callable[..., Any], words: tuple[str, ...]) -> None:
    assert "Traceback (most recent call last)" in icp(*words).err


def test_debug_by_environment(icp: Callable[..., Any]) -> None:
    assert "Traceback" in icp("status", ICP_DEBUG="1").err
    assert "Traceback" not in icp("status", ICP_DEBUG="0").err


def run_with(fault: str) -> subprocess.CompletedProcess[str]:
    """``icp new`` whose work is replaced."""
    code = f"import icp.commands.new as n, sys, icp.cli\ndef new():\n    {fault}\nn.new = new\nsys.exit(icp.cli.main(['new']))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_bug_is_called_a_bug() -> None:
    done = run_with("[][1]")
    assert done.returncode == 1
    assert done.stderr == "icp: this is a bug in icp: IndexError: list index out of range; run again with --debug for the traceback\n"


def test_ctrl_c_is_silent() -> None:
    done = run_with("raise KeyboardInterrupt")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_full_disk_is_not_a_bug() -> None:
    done = run_with("raise OSError(28, 'No space left on device', '/data/x')")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "icp: No space left on device: /data/x")


def test_control_characters_of_a_site_do_not_reach_the_terminal() -> None:
    done = run_with("from icp.errors import Failed; raise Failed('said \\x1b[2J', 'a\\x07b')")
    assert done.stderr == "icp: said \\x1b[2J\nhint: a\\x07b\n"


def test_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(f"{sys.executable} -m icp schema | head -n 1", shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_broken_pipe_of_something_else_is_told() -> None:
    assert "this is a bug" in run_with("raise BrokenPipeError").stderr


def test_version(icp: Callable[..., Any]) -> None:
    assert icp("--version").out.startswith("icp 0.")


def completions(words: str) -> list[str]:
    count = str(len(words.split()) if words.endswith(" ") else len(words.split()) - 1)
    environment = {**os.environ, "_ICP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}
    done = subprocess.run([sys.executable, "-m", "icp"], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_shell_completes_commands_and_options() -> None:
    assert completions("icp sta") == ["status", "stats"]
    assert "--json" in completions("icp status --")
    assert completions("icp ledger ch") == ["check"]


def test_shell_completes_nothing_without_a_ledger() -> None:
    assert completions("icp show ") == []


def test_completion_is_installed_into_the_home(icp: Callable[..., Any], isolated: Path) -> None:
    ran = icp("--install-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", SHELL="/bin/bash")
    assert ran.rc == 0, ran.err
    assert "complete -o default -F" in "".join(one.read_text() for one in (isolated / "user").rglob("icp.sh"))

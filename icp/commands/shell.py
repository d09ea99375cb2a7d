"""``icp shell``: the commands without ``icp`` in front, with history and completion (hides readline, and that each command is a process)."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import typer

import icp

__all__ = ["shell"]

_ROOT = Path(icp.__file__).parent.parent
_START = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from icp.cli import main; sys.exit(main())"
_KEPT = 1000
"""Lines of history."""


def shell() -> None:
    """Type commands without icp in front, with history and completion (Tab).

    help shows the commands, help COMMAND explains one. Ctrl-C ends the command that runs, or gives up the line; Ctrl-D or exit leaves. The prompt
    shows the exit code of a command that failed. Lines that come from a file or a pipe run one after the other, and the exit code is the last one's.

    Examples:

      icp shell

      icp shell < commands.txt

    """
    typed = sys.stdin.isatty()
    keep = _history() if typed else None
    if typed:
        typer.echo("Commands without icp in front; help lists them, Tab completes, Ctrl-D leaves.")
    code = 0
    while True:
        try:
            line = input(f"icp [{code}]> " if code else "icp> ") if typed else input()
        except EOFError:
            break
        except KeyboardInterrupt:
            typer.echo()
            code = 130
            continue
        if keep is not None:
            keep()
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            typer.echo(f"icp: {line.strip()[:60]}: {str(error).lower()}", err=True)
            code = 2
            continue
        words = _meant(words)
        if words[:1] in (["exit"], ["quit"]):
            code = 0 if typed else code
            break
        if words:
            code = _run(words)
    if typed:
        typer.echo()
    raise typer.Exit(0 if typed else code)


def _meant(words: list[str]) -> list[str]:
    words = words[1:] if words[:1] == ["icp"] else words
    if words[:1] in (["help"], ["?"]):
        return [*words[1:], "--help"]
    return words


def _run(words: list[str]) -> int:
    if words == ["shell"]:
        return 0  # one is here already
    # Ctrl-C is the command's; a handler of ours, unlike an ignored signal, is not inherited by it
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = subprocess.run([sys.executable, "-c", _START, *words], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _history() -> Any:
    """Sets up readline; what keeps the line that was just typed, or None where there is no readline."""
    try:
        import readline
    except ImportError:
        return None
    from icp.places import places

    file = places().state / "shell-history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        readline.read_history_file(file)
    except OSError:
        pass
    readline.set_history_length(_KEPT)
    readline.set_completer_delims(" \t\n")
    readline.set_completer(lambda word, state: _completion(readline.get_line_buffer()[: readline.get_begidx()], word, state))
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")

    def keep() -> None:
        try:
            readline.write_history_file(file)
        except OSError:
            pass

    return keep


def _completion(before: str, word: str, state: int) -> str | None:
    found = _completions(before, word)
    return found[state] if state < len(found) else None


@lru_cache(maxsize=200)
def _completions(before: str, word: str) -> tuple[str, ...]:
    """What may stand there, as the completion of other shells has it; files where that is nothing."""
    said = f"icp {before}{word}"
    number = len(f"icp {before}".split()) if word else len(said.split())
    env = {**os.environ, "_ICP_COMPLETE": "complete_bash", "_TYPER_COMPLETE_ARGS": said, "COMP_WORDS": said, "COMP_CWORD": str(number)}
    try:
        done = subprocess.run([sys.executable, "-c", _START], env=env, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = [f"{one} " for one in done.stdout.split("\n") if one.startswith(word) and one]
    if not before.strip():
        found += [f"{one} " for one in ("help", "exit") if one.startswith(word)]
    return tuple(found or _files(word))


def _files(word: str) -> list[str]:
    folder, slash, start = word.rpartition("/")
    try:
        there = sorted(os.scandir(folder + slash or "."), key=lambda one: one.name)
    except OSError:
        return []
    return [f"{folder}{slash}{one.name}{'/' if one.is_dir() else ' '}" for one in there if one.name.startswith(start) and (start or one.name[0] != ".")]

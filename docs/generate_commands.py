"""Writes docs/commands.md from the help of every command: python docs/generate_commands.py"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from icp import cli

HEAD = """# Commands

Every command with its options, as `icp COMMAND --help` prints it. Written by `make docs`.

Exit codes: 0 ok, 1 failed, 2 usage or bad input, 3 not found, 4 refused (a lock, a copied ledger), 5 unknown (a site did not answer), 130 Ctrl-C.
An error is one sentence and a hint on stderr; `--debug`, anywhere on the line, or `ICP_DEBUG=1` shows the traceback.
`icp --install-completion` makes the shell complete commands, options and names of datasets.
"""


def help_of(command: Any, name: str) -> str:
    """The help text of one command, 100 columns wide."""
    context = command.context_class(command, info_name=name, terminal_width=100, max_content_width=100)
    text: str = command.get_help(context)
    return "\n".join(line.rstrip() for line in text.splitlines())


def page() -> str:
    """The whole page."""
    commands = list(cli.walk())
    parts = [HEAD, f"```text\n{help_of(cli.program(), 'icp')}\n```\n"]
    for panel, rows in cli.PANELS.items():
        parts.append(f"## {panel}\n")
        for name, command in commands:
            if name.split()[0] in rows:
                parts.append(f"### icp {name}\n\n```text\n{help_of(command, f'icp {name}')}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    Path(__file__).with_name("commands.md").write_text(page(), encoding="utf-8")

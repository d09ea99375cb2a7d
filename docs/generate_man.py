"""Writes docs/icp.1, the manual page, from the help of every command: python docs/generate_man.py"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icp import cli

HEAD = f""".\\" Written by docs/generate_man.py from the help texts.
.TH ICP 1 "" "icp {version("icp-pool")}" "User Commands"
.SH NAME
icp \\- pool your own computing allocations
.SH SYNOPSIS
.B icp
.I COMMAND
.RI [ OPTIONS ]
.SH DESCRIPTION
A steering file describes a dataset of jobs, each a DAG of tasks. They run through pilots on every cluster that you can ssh to; what happened is in one
SQLite file, the ledger. Begin with
.BR "icp demo" ,
then
.B icp site add
and
.BR "icp submit" .
"""
TAIL = """.SH EXIT STATUS
0 ok, 1 failed, 2 usage or bad input, 3 not found, 4 refused (a lock, a copied ledger), 5 unknown (a site did not answer), 130 Ctrl\\-C.
.SH ENVIRONMENT
.TP
.B ICP_HOME
the directory of configuration, ledger and all else, instead of those of XDG
.TP
.B ICP_DEBUG
1: tracebacks
.TP
.B NO_COLOR
no colours
.SH FILES
.TP
.I ~/.config/icp/config.toml
sites and policy
.TP
.I ~/.local/share/icp/ledger.sqlite
the ledger
.SH SEE ALSO
.BR ssh (1)
"""


def roff(text: str) -> str:
    """Plain text for roff: nothing in it is a request or an escape."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line.rstrip() for line in lines)


def entry(command: Any, name: str) -> str:
    """One command: its usage, then its help as it is printed, 78 columns wide."""
    context = command.context_class(command, info_name=name, terminal_width=78, max_content_width=78)
    usage, _, rest = command.get_help(context).partition("\n\n")
    return f".SS {roff(name)}\n.nf\n{roff(usage)}\n\n{roff(rest)}\n.fi\n"


def page() -> str:
    """The whole page, in the order of `icp --help`."""
    commands = list(cli.walk())
    parts = [HEAD]
    for panel, rows in cli.PANELS.items():
        parts.append(f".SH {roff(panel).upper()}\n")
        parts += [entry(command, f"icp {name}") for name, command in commands if name.split()[0] in rows]
    return "".join([*parts, TAIL])


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    Path(__file__).with_name("icp.1").write_text(page(), encoding="utf-8")

"""`icp site add | check | list | show | pause | resume | drain | remove`: the hosts that work for a person (hides nothing: a list of commands)."""

from __future__ import annotations

import typer

from icp.commands.site.add import add
from icp.commands.site.check import check
from icp.commands.site.order import drain, pause, resume
from icp.commands.site.remove import remove
from icp.commands.site.show import list_, show

__all__ = ["app"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
for _name, _command in (
    ("add", add), ("check", check), ("list", list_), ("show", show), ("pause", pause), ("resume", resume), ("drain", drain), ("remove", remove),
):  # fmt: skip
    app.command(_name)(_command)

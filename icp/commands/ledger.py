"""`icp ledger check | backup | adopt`: the ledger itself (hides only the printing)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icp import output
from icp.commands.arguments import AsJson, Yes, confirm, open_here, plural
from icp.errors import Failed

__all__ = ["adopt", "app", "backup", "check"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def check(
    deep: Annotated[bool, typer.Option("--deep", help="Read every file at home, and compare its sha256.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recount everything that the ledger keeps, and look for every file that is home. Exit code 1 if something is wrong.

    Looks at the whole ledger: minutes, where there are millions of tasks. The engine may run meanwhile.

    Example:

      icp ledger check --deep
    """
    from icp.ledger.check import check as look

    ledger = open_here()
    found = look(ledger, deep=deep)
    if as_json:
        output.print_json({"ledger": str(ledger.path), "clean": not found, "violations": found})
        if found:
            raise typer.Exit(1)
        return
    for sentence in found:
        output.say(output.clean(sentence))
    if found:
        raise Failed(f"{ledger.path} is not true to itself: see above", "keep a copy (`icp ledger backup FILE`) and report it")
    output.say(f"{ledger.path} is clean")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.", show_default=False)],
) -> None:
    """Write a copy of the ledger, whole and checked. The engine may run meanwhile.

    After a restore, `icp ledger adopt` takes up what happened since.

    Example:

      icp ledger backup ~/ledger-2026-11-25.sqlite
    """
    from icp.ledger.db import backup as copy

    ledger = open_here()
    copy(ledger, file.expanduser().absolute())
    output.say(f"{output.clean(file)} is a copy of {ledger.path}, checked")


@app.command()
def adopt(yes: Yes = False, as_json: AsJson = False) -> None:
    """Make this ledger the one that the sites obey, after a restore or a copy: read again all that happened there.

    Every other copy of it is refused from then on.

    Example:

      icp ledger adopt
    """
    from icp import config
    from icp.engine import adopt as take_over
    from icp.engine.loop import engine_lock

    ledger = open_here()
    configuration = config.load()
    confirm(f"Make {ledger.path} the ledger that the sites obey? Every other copy is refused from then on.", yes)
    with engine_lock(configuration):
        found = take_over(ledger, configuration)
    if as_json:
        output.print_json(found)
        return
    for one in found:
        told = f"{plural(one.facts, 'fact')} read, {plural(one.accepted, 'result')} taken, {plural(one.remade, 'attempt')} made again, {one.gone} given up"
        output.say(f"site {output.clean(one.site)} obeys this ledger (epoch {one.epoch}): {told}")
        if one.unknown:
            output.say(f"  {plural(len(one.unknown), 'card')} of datasets that this ledger does not know are called back")
    output.say("`icp run` goes on; `icp ledger check` recounts everything")

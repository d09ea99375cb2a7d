"""`icp modules list | show`: Python modules that a tray can run, and their parameters (hides only the printing)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import AsJson
from icp.output import clean

if TYPE_CHECKING:
    from icp.dsl.declarations import Class

__all__ = ["app", "list_", "show"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _names(incomplete: str) -> list[str]:
    from icp.pilot.modules import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the predefined modules: python = "NAME" in a tray runs one.

    JSON: a list of what `icp modules show NAME --json` gives.

    Example:

      icp modules list
    """
    from icp.dsl.modules import predefined_class
    from icp.pilot.modules import NAMES

    rows = [_shown(name, predefined_class(name)) for name in NAMES]
    if as_json:
        output.print_json(rows)
        return
    for row in rows:
        output.say(f"{row['module']:<9} {row['help'].splitlines()[0]}")
    output.say("`icp modules show NAME` has the parameters; docs/modules.md how to write one")


@app.command()
def show(
    module: Annotated[
        str, typer.Argument(metavar="NAME", help="A predefined module, or a Python file with modules of one's own.", show_default=False, autocompletion=_names)
    ],
    as_json: AsJson = False,
) -> None:
    """Show the parameters of a module. The file is read, not run.

    JSON: {"module", "class", "help", "parameters": [{"name", "types", "required", "default", "choices", "help"}], "open"}; a list of
    these for a file. "open": it may have more parameters than can be seen.

    Examples:

      icp modules show checksum

      icp modules show level2.py
    """
    from icp.dsl.modules import predefined_class
    from icp.errors import NotFound
    from icp.pilot.modules import NAMES

    if module in NAMES:
        rows = [_shown(module, predefined_class(module))]
    elif module.endswith(".py"):
        rows = [_shown(module, one) for one in _of_file(Path(module))]
    else:
        raise NotFound(f"there is no predefined module {module}", f"there are {', '.join(NAMES)}, and files NAME.py")
    if as_json:
        output.print_json(rows[0] if module in NAMES else rows)
        return
    for number, row in enumerate(rows):
        if number:
            output.say()
        _say(row)


def _of_file(path: Path) -> list[Class]:
    from icp.dsl.declarations import NotPython, read
    from icp.dsl.disk import Disk
    from icp.dsl.modules import beside
    from icp.errors import BadInput, NotFound

    disk = Disk(path.parent)

    def get(name: str) -> str | None:
        return disk.read(name).decode("utf-8", "replace") if disk.is_file(name) else None

    text = get(path.name)
    if text is None:
        raise NotFound(f"there is no file {path}")
    try:
        found = [one for one in read(text, beside(path.name, get)).values() if one.module]
    except NotPython as error:
        raise BadInput(f"{path} cannot be read as Python: {error}") from None
    if not found:
        raise BadInput(f"{path} has no class that derives from icp.pilot.module.Module", "docs/modules.md shows one")
    return found


def _shown(name: str, cls: Class) -> dict[str, Any]:
    parameters = [
        {"name": one.name, "types": list(one.types), "required": one.required, "default": one.default or None,
         "choices": None if one.choices is None else list(one.choices), "help": one.help}
        for one in cls.parameters.values()
    ]  # fmt: skip
    return {"module": name, "class": cls.name, "help": cls.help, "parameters": parameters, "open": cls.open}


def _say(row: dict[str, Any]) -> None:
    output.say(f"{clean(row['module'])}, class {clean(row['class'])}: {clean(row['help'] or 'it does not say what it does')}")
    rows = []
    for one in row["parameters"]:
        choices = one["choices"]
        kind = " | ".join(map(repr, choices)) if choices else " or ".join(one["types"]) or "anything"
        rows.append([clean(cell) for cell in (one["name"], kind, "required" if one["required"] else one["default"], one["help"])])
    if rows:
        for line in output.table(["PARAMETER", "TYPE", "DEFAULT", "WHAT"], rows):
            output.say(line)
    else:
        output.say("it has no parameters")
    if row["open"]:
        output.say("it may have more, that cannot be seen without running it")

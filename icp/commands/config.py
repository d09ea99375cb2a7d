"""`icp config show | set | explain`: the configuration (hides only the printing)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from icp import output
from icp.commands.arguments import AsJson
from icp.output import clean

__all__ = ["app", "explain", "set_value", "show"]

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _keys(incomplete: str) -> list[str]:
    from icp.config import KEYS

    return [key.path for key in KEYS if key.path.startswith(incomplete)]


KeyName = Annotated[str, typer.Argument(metavar="KEY", help="A dotted key, such as site.local.pilot.cpus.", show_default=False, autocompletion=_keys)]


@app.command()
def show(as_json: AsJson = False) -> None:
    """Show every key that the configuration file sets, and where things are.

    Example:

      icp config show
    """
    from icp import config

    where = config.places()
    said = config.values(where)
    loaded = config.load()
    places = {"config": where.config, "ledger": loaded.ledger, "data": where.data, "state": where.state, "cache": where.cache}
    if as_json:
        output.print_json({"places": places, "values": said, "sites": list(loaded.sites)})
        return
    for word, place in places.items():
        output.say(f"{word:<7} {clean(place)}")
    output.say(f"sites   {', '.join(map(clean, loaded.sites))}")
    output.say()
    for path, value in said.items():
        output.say(f"{clean(path)} = {clean(value)}")
    if not said:
        output.say("nothing is set: every key has its default; `icp config explain` lists them")


@app.command("set")
def set_value(
    key: KeyName,
    value: Annotated[str, typer.Argument(metavar="VALUE", help='A TOML value, or plain text: 4, "2 GB", true, icp.', show_default=False)],
) -> None:
    """Set one key in the file; the rest of it stays as it is. The engine takes it up when it is started again.

    Examples:

      icp config set site.local.pilot.cpus 4

      icp config set site.local.attributes.GPU true
    """
    from icp import config

    where = config.places()
    config.set_value(where, key, value)
    output.say(f"{clean(key)} is set in {clean(where.config)}")


@app.command()
def explain(
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="A dotted key; all of them without it.", show_default=False, autocompletion=_keys)] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a key means, its default, and what it is set to.

    Example:

      icp config explain policy.silent
    """
    from icp import config

    keys = config.KEYS if key is None else (config.explain(key),)
    said = config.values(config.places())

    def entry(one: Any) -> dict[str, Any]:
        return {"key": one.path, "kind": one.kind, "default": one.default, "doc": one.doc, "value": said.get(key or one.path)}

    rows = [entry(one) for one in keys]
    if as_json:
        output.print_json(rows if key is None else rows[0])
    elif key is None:
        for row in rows:
            output.say(f"{row['key']}: {row['doc']}")
    else:
        row = rows[0]
        output.say(f"{clean(key)}: {row['doc']}")
        output.say(f"kind {row['kind']}; default {'none' if row['default'] is None else row['default']}")
        output.say("not set" if row["value"] is None else f"set to {clean(row['value'])}")

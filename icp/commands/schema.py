"""``icp schema``: the JSON Schema of steering files (hides nothing)."""

from __future__ import annotations

import json

import typer

from icp.dsl.reference import json_schema

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of steering files, for editors.

    With Taplo or Even Better TOML: save it, and begin a steering file with "#:schema ./steering.schema.json".

    Examples:

      icp schema > steering.schema.json

    """
    typer.echo(json.dumps(json_schema(), indent=2))

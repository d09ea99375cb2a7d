"""``icp convert``: a steering file of IceProd as one of ours (hides where the text goes)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icp.errors import BadInput, NotFound, Refused

__all__ = ["convert"]


def convert(
    file: Annotated[Path, typer.Argument(help="XML of IceProd 1, or JSON of IceProd 2 or 3.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the steering file there instead of printing it.", show_default=False)] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-n", min=1, help="How many jobs; IceProd's files do not say it.", show_default=False)] = None,
    dataset: Annotated[int | None, typer.Option("--dataset", help="The number that $(dataset) stands for.", show_default=False)] = None,
    port: Annotated[bool, typer.Option("--port", help="Write python, class and params for classes of IceProd 1, which you write anew.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the file that -o names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what a person must look at as JSON, and the text in it unless -o is given.")] = False,
) -> None:
    """Turn a steering file of IceProd into one of icp.

    Nothing is dropped: what may differ is marked CHECK in the new file, what has no counterpart NOT CONVERTED; both are listed on standard
    error. docs/iceprod.md has what becomes what. JSON: {"text", "output", "jobs", "tasks", "notes": [{"word", "place", "about"}]}.

    Examples:

      icp convert old.xml -o steering.toml

      icp convert 21002.json --jobs 10000 --dataset 21002 | less

      icp convert 21002.json --json | jq '.notes[]'

    """
    from icp.dsl.foreign.iceprod import convert as converted

    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 (byte {error.start}).") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror or error}.") from None
    found = converted(text, str(file), jobs, dataset, port)
    if output is not None:
        try:
            with output.open("w" if force else "x", encoding="utf-8") as stream:
                stream.write(found.text)
        except FileExistsError:
            raise Refused(f"{output} is there already.", "--force replaces it.") from None
        except OSError as error:
            raise BadInput(f"{output} cannot be written: {error.strerror or error}.") from None
    if as_json:
        from icp.output import print_json

        about = {"text": found.text if output is None else None, "output": output, "jobs": found.jobs, "tasks": found.tasks}
        print_json({**about, "notes": [{"word": note.word, "place": note.place, "about": note.about} for note in found.notes]})
        return
    if output is None:
        typer.echo(found.text, nl=False)
    for note in found.notes:
        typer.echo(f"{note.word}: {note.place}: {note.about}", err=True)
    lost = sum(note.word == "NOT CONVERTED" for note in found.notes)
    typer.echo(_summary(found.tasks, lost, len(found.notes) - lost, output), err=True)


def _summary(tasks: int, lost: int, check: int, output: Path | None) -> str:
    said = f"{tasks} task{'s' * (tasks != 1)} converted; {lost} thing{'s' * (lost != 1)} NOT CONVERTED, {check} to CHECK"
    return f"{said}. Next: icp validate {output}" if output else f"{said}."

"""`icp provenance`: where a file came from (hides only the printing)."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import ALL, AsJson, Limit, job_text, open_here, plural
from icp.errors import Failed, NotFound
from icp.output import clean, paint, say

if TYPE_CHECKING:
    from icp.engine.provenance import Story
    from icp.ledger.provenance import FileRecord

__all__ = ["provenance"]

PLAIN = ("attempt", "task", "tries", "state", "accepted", "void", "site", "host", "agent", "begun", "wall", "cpu", "memory", "exit", "stats", "software")
SHOWN = 5
"""Inputs of one attempt that are written out."""


def provenance(
    thing: Annotated[str, typer.Argument(metavar="FILE|SHA256", help="A file, wherever it is now, or a sha256 (8 hex digits or more).", show_default=False)],
    steering: Annotated[bool, typer.Option("--steering", help="Print the steering file as it was when the file was made.")] = False,
    limit: Limit = 50,
    every: ALL = False,
    as_json: AsJson = False,
) -> None:
    """Say which job of which dataset made a file: where, when, with what software, seed, command and inputs, back to the first of them.

    A file is known by its bytes: it may have been moved, or come from elsewhere.

    Examples:

      icp provenance outputs/muons/final/000000/spectrum.svg

      icp provenance 5f70bf18a086 --json

      icp provenance plot.svg --steering > again.toml
    """
    from icp import config
    from icp.engine.provenance import StoryTeller
    from icp.ledger import provenance as records

    ledger = open_here()
    path, digest = _digest_of(thing)
    with ledger.read() as db:
        placed = records.by_path(db, path.absolute()) if path else []
        found = [one for one in placed if one.sha256 == digest] or records.by_digest(db, digest)
        if not found and placed:
            changed = f"{clean(thing)} is not the file that was recorded here: its sha256 is {digest}, and was {placed[0].sha256}"
            found = placed
        else:
            changed = ""
        if not found:
            shipped = records.packs(db, digest)
            if shipped:
                raise NotFound(f"these bytes are what dataset {shipped[0][1]} shipped to its tasks, not an output", f"`icp export {shipped[0][1]} -o DIR`")
            raise NotFound(f"no task of this ledger made {clean(thing)} (sha256 {digest})", "`icp outputs DATASET` lists what was made")
        first = found[0]
        if steering:
            made = records.made_by(db, first.attempt)
            text = records.revision(db, made.dataset, first.attempt).steering
        else:
            teller = StoryTeller(db, config.load().sites)
            stories, left = teller.lineage([first.attempt], None if every else limit)
            others = [records.made_by(db, one.attempt) for one in found[1:]]
    if steering:
        typer.echo(text, nl=False)
    elif as_json:
        keys = {one.made.number: one.made.attempt for one in stories}
        output.print_json({
            "file": thing if path else None, "sha256": digest, "recorded": _file(first), "changed": bool(changed),
            "attempts": [_story(one, keys) for one in stories], "left_out": left,
            "same_bytes": [{"dataset": one.name, "job": one.job if one.job >= 0 else None, "group": None if one.job >= 0 else -1 - one.job,
                            "task": one.task, "attempt": one.attempt} for one in others],
        })  # fmt: skip
    else:
        _print(first, stories, left, len(others))
    if changed:
        raise Failed(changed, "`icp verify DATASET` looks at all files of a dataset; `icp reset` makes a job's anew")


def _digest_of(thing: str) -> tuple[Path | None, str]:
    path = Path(thing).expanduser()
    if not path.exists():
        return None, thing
    if path.is_dir():
        raise NotFound(f"{clean(thing)} is a directory", "name a file in it, or a sha256")
    from icp.pilot.digest import digest_of

    return path, digest_of(path)


def _file(one: FileRecord) -> dict[str, Any]:
    shown = dataclasses.asdict(one)
    del shown["file"], shown["attempt"]
    return shown


def _story(one: Story, keys: dict[int, str]) -> dict[str, Any]:
    made = dataclasses.asdict(one.made)
    group = None if made["job"] >= 0 else -1 - made["job"]
    return {
        **{key: made[key] for key in PLAIN},
        "dataset": {"number": made["dataset"], "name": made["name"], "uuid": made["uuid"], "seed": made["seed"], "deleted": made["deleted"],
                    "revision": one.revision},
        "job": None if group is not None else made["job"], "group": group, "seed": one.seed, "arguments": one.arguments, "commands": one.commands,
        "files": one.files,
        "inputs": [{"name": read.name, "sha256": read.sha256, "bytes": read.bytes, "attempt": keys.get(read.attempt)} for read in one.inputs],
        "outputs": [_file(file) for file in one.outputs],
        "transfers": [{"how": file.how, "name": file.name, "url": file.url, "bytes": file.bytes, "sha256": file.sha256} for file in one.moved],
    }  # fmt: skip


def _print(first: FileRecord, stories: list[Story], left: int, others: int) -> None:
    at = f", {first.state}" + (f" in {clean(first.path)}" if first.path and first.state == "home" else "")
    say(f"{paint(clean(first.name), 'bold')}  {output.plain_size(first.bytes)}  sha256 {first.sha256}{at}")
    if others:
        say(paint(f"the same bytes were made {others} more time{'s' * (others != 1)} (--json lists where)", "dim"))
    for number, one in enumerate(stories):
        say()
        _attempt(one, number == 0)
    if left:
        say()
        say(paint(f"{plural(left, 'attempt')} behind these {'is' if left == 1 else 'are'} left out: --limit N, or --all", "dim"))


def _attempt(one: Story, first: bool) -> None:
    made = one.made
    name = clean(made.name) + (" (deleted)" if made.deleted else "")
    job = job_text(made.job)
    counts = "" if made.accepted else ", which does not count any more" if made.state == "ok" else f", which is {made.state}"
    say(f"{'made by' if first else 'from'} {paint(clean(made.task), 'bold')} in job {job} of dataset {name}, try {made.tries}{counts}")
    usage = [] if made.wall is None else [output.duration(made.wall)]
    usage += [f"cpu {output.duration(made.cpu)}"] if made.cpu is not None else []
    usage += [f"memory {output.plain_size(made.memory)}"] if made.memory else []
    facts = [
        ("attempt", made.attempt),
        ("where", f"site {clean(made.site)}" + (f", host {clean(made.host)}" if made.host else "")),
        ("when", output.clock(made.begun) + (f", {', '.join(usage)}" if usage else "")),
        ("seed", f"{one.seed} (of the dataset's {made.seed})"),
    ]
    if one.arguments:
        facts.append(("arguments", ", ".join(f"{clean(key)} = {clean(_short(value))}" for key, value in one.arguments.items())))
    facts += [("ran", _command(argv)) for argv in one.commands or ()]
    if made.software:
        facts.append(("software", clean(made.software)))
    if one.files:
        facts.append(("with files", f"sha256 {one.files}"))
    facts.append(("steering", f"revision {one.revision}; --steering prints it" if first else f"revision {one.revision}"))
    for word, text in facts:
        say(f"  {word:<10} {text}")
    for file in one.moved:
        word = "stored" if file.how == "stored" else "fetched"
        say(f"  {word:<10} {clean(file.url)}  sha256 {file.sha256[:16]}")
    for read in one.inputs[:SHOWN]:
        say(f"  {'read':<10} {clean(read.name)}  sha256 {read.sha256[:16] if read.sha256 else 'not recorded'}")
    if len(one.inputs) > SHOWN:
        say(f"  {'':<10} and {plural(len(one.inputs) - SHOWN, 'file')} more")


def _command(argv: Any) -> str:
    """A shell's own line where there is one, the words otherwise; what only the node knew stands as its name."""
    words = [part if isinstance(part, str) else "$ICP_" + str(part.get("node", "?")).upper() if isinstance(part, dict) else str(part) for part in argv]
    if words[:3] == ["/bin/sh", "-e", "-c"] and len(words) == 4:
        return clean(words[3].strip())
    return clean(shlex.join(words))


def _short(value: Any) -> str:
    """A list of a group of files is known by its first; --json has all."""
    return f"[{value[0]}, ... {len(value)}]" if isinstance(value, list) and len(value) > 1 else str(value)

"""The command line: one table of commands, each imported when it is called (hides Typer, exit codes, how errors look)."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
import typer.core
import typer.exceptions
import typer.main

from icp.errors import BadInput, IcpError

__all__ = ["COMMANDS", "PANELS", "main", "program", "walk"]

PANELS = {
    "Describe": {
        "new": ("icp.commands.new:new", "Print a short steering file to start from."),
        "validate": ("icp.commands.validate:validate", "Find every mistake of a steering file."),
        "expand": ("icp.commands.expand:expand", "Show what one job will run."),
        "graph": ("icp.commands.graph:graph", "Draw the tasks of a job."),
        "modules": ("icp.commands.modules:app", "List predefined Python modules, and show their parameters."),
        "schema": ("icp.commands.schema:schema", "Print the JSON Schema of steering files, for editors."),
        "convert": ("icp.commands.convert:convert", "Turn a steering file of IceProd into one of icp."),
        "local": ("icp.commands.local:local", "Run one job here in the foreground, to debug it."),
    },
    "Sites": {
        "site": ("icp.commands.site:app", "Add, check, list, pause, drain or remove sites."),
        "login": ("icp.commands.login:login", "Open a site's connection by hand: passwords and codes."),
        "doctor": ("icp.commands.doctor:doctor", "Say what a site, or this machine, means for running there."),
    },
    "Run": {
        "demo": ("icp.commands.demo:demo", "See a whole dataset run on this machine."),
        "submit": ("icp.commands.submit:submit", "Record a dataset and give its first jobs to the sites."),
        "run": ("icp.commands.run:run", "Run the engine, in a loop or once for cron."),
        "cron": ("icp.commands.cron:app", "Let ticks go on while nobody is logged in."),
        "overflow": ("icp.commands.overflow:overflow", "Run idle jobs of your HTCondor queue elsewhere."),
    },
    "Look": {
        "status": ("icp.commands.status:status", "Show datasets, sites and the engine."),
        "jobs": ("icp.commands.jobs:jobs", "List the jobs of a dataset."),
        "tasks": ("icp.commands.tasks:tasks", "List the tasks of a dataset."),
        "show": ("icp.commands.show:show", "Show all there is about a dataset, a job or a task."),
        "logs": ("icp.commands.logs:logs", "Print what a task wrote to stdout and stderr."),
        "why": ("icp.commands.why:why", "Say why something does not go on, and what mends it."),
        "stats": ("icp.commands.stats:stats", "Show the statistics that tasks returned."),
        "report": ("icp.commands.report:report", "Write a page with pictures about a dataset."),
        "outputs": ("icp.commands.outputs:outputs", "Say where the results are."),
        "verify": ("icp.commands.verify:verify", "Compare outputs at home with what was recorded."),
        "provenance": ("icp.commands.provenance:provenance", "Say where a file came from, back to the first input."),
    },
    "Control": {
        "suspend": ("icp.commands.control:suspend", "Begin nothing more of a dataset, or of some of its jobs."),
        "resume": ("icp.commands.control:resume", "Go on with what is suspended."),
        "retry": ("icp.commands.control:retry", "Let failed tasks try again."),
        "reset": ("icp.commands.control:reset", "Do jobs anew; what they did is void."),
        "cancel": ("icp.commands.control:cancel", "Give up a dataset, or some of its jobs."),
        "set": ("icp.commands.change:set_", "Change priority, sites and limits of a dataset."),
        "extend": ("icp.commands.change:extend", "Add jobs to a dataset."),
        "rename": ("icp.commands.change:rename", "Give a dataset another name."),
        "delete": ("icp.commands.control:delete", "Forget a dataset that has ended."),
    },
    "Keep": {
        "export": ("icp.commands.export:export", "Write a dataset down, to be kept or given away."),
        "rerun": ("icp.commands.rerun:rerun", "Do a job again here, and compare the bytes."),
        "gc": ("icp.commands.gc:gc", "Free what counts for nothing any more."),
        "ledger": ("icp.commands.ledger:app", "Check, back up or adopt the ledger."),
        "config": ("icp.commands.config:app", "Show, set or explain the configuration."),
        "shell": ("icp.commands.shell:shell", "Type commands without icp in front."),
    },
}
"""Panel of the help -> command -> (module:function, or module:app for a command that has commands of its own; one line of help)."""

COMMANDS = {name: target for rows in PANELS.values() for name, (target, _) in rows.items()}

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


def _load(name: str) -> typer.core.TyperCommand | typer.core.TyperGroup:
    """Import the command's module and build the command."""
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        app = found
        app.info.context_settings, app.info.no_args_is_help = HELP_OPTIONS, True
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name, context_settings=HELP_OPTIONS)(found)
    command: Any = typer.main.get_command(app)
    command.name = name
    return command  # type: ignore[no-any-return]


class _Commands(typer.core.TyperGroup):
    """Lists the commands from the table; the one that is called, or completed, is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for rows in PANELS.values():
            for name, (_, line) in rows.items():
                self.commands[name] = typer.core.TyperCommand(name, help=line, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name and command else command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for panel, rows in PANELS.items():
            with formatter.section(panel):
                # one width for all panels
                formatter.write_dl([(f"{name:<10}", line) for name, (_, line) in rows.items()])


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"icp {version('icp-pool')}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (also ICP_DEBUG=1, and after the command).")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Pool your own allocations: one steering file, every machine that is yours to use, one ledger.

    New here: icp demo. Then: icp new > steering.toml, and icp submit steering.toml --watch.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def program() -> typer.core.TyperGroup:
    """The command ``icp`` with all its commands, none of them imported."""
    app = typer.Typer(name="icp", cls=_Commands, rich_markup_mode=None, context_settings=HELP_OPTIONS, invoke_without_command=True)
    app.callback()(_options)
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group


def walk() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Every command that can be called, imported, with its whole name: ``("ledger check", …)``."""
    for name in COMMANDS:
        command: Any = _load(name)
        below = getattr(command, "commands", None)
        if below is None:
            yield name, command
        else:
            yield from ((f"{name} {one}", inner) for one, inner in below.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 ok, 1 failed, 2 usage or bad input, 3 not found, 4 refused, 5 unknown, 130 Ctrl-C."""
    args, debug = _without_debug(list(sys.argv[1:] if argv is None else argv))
    group = program()
    if os.environ.get("_ICP_COMPLETE"):
        group.main(args, prog_name="icp")  # the shell asks for completions: answers, and exits
    try:
        code = _run(group, args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_gone():
            return 1
        if debug:
            raise
        return _said(_about_words(error, args))


def _about_words(error: Exception, args: list[str]) -> Exception:
    """The same, but of a word on the command line that is no UTF-8 where one must be."""
    odd = [one for one in args if any("\udc80" <= letter <= "\udcff" for letter in one)] if isinstance(error, UnicodeEncodeError) else []
    return BadInput(f"{os.fsencode(odd[0])!r} is not UTF-8 text, and every name here is", "type it anew") if odd else error


def _without_debug(args: list[str]) -> tuple[list[str], bool]:
    """``--debug`` is taken anywhere before ``--``: people add it at the end of the line that failed."""
    end = args.index("--") if "--" in args else len(args)
    kept = [one for one in args[:end] if one != "--debug"]
    return kept + args[end:], len(kept) < end or os.environ.get("ICP_DEBUG", "0") not in ("", "0")


def _run(group: typer.core.TyperGroup, args: list[str]) -> int:
    # not group.main(): that would end a command silently at any EPIPE, also at one that is not stdout's
    try:
        with group.make_context("icp", args) as context:
            group.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return 130
    return 0


def _stdout_is_gone() -> bool:
    """Whether the reader of stdout left; what is still buffered is thrown away then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _said(error: Exception) -> int:
    """Tell a person on stderr what went wrong, in one sentence and a hint; the exit code."""
    if isinstance(error, IcpError):
        _tell(error.message, error.mistakes if isinstance(error, BadInput) else (), error.hint)
        return error.code
    if isinstance(error, typer.exceptions.TyperException):
        if type(error).__name__ == "NoArgsIsHelpError":  # `icp ledger` alone
            typer.echo(error.format_message())
            return 0
        where = getattr(error, "ctx", None)
        _tell(error.format_message(), (), f"{where.command_path} --help" if where else None)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        _tell(f"{error.strerror}: {error.filename}" if error.filename else error.strerror, (), "--debug shows where it happened")
        return 1
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    _tell(f"this is a bug in icp: {text}; run again with --debug for the traceback")
    return 1


def _tell(message: str, details: Sequence[str] = (), hint: str | None = None) -> None:
    typer.secho("icp: ", fg="red", bold=True, nl=False, err=True)
    typer.echo(_printable(message), err=True)
    for line in details:
        typer.echo(f"  {_printable(line)}", err=True)
    if hint:
        typer.secho("hint: ", bold=True, nl=False, err=True)
        typer.echo(_printable(hint), err=True)


def _printable(text: str) -> str:
    """Control characters escaped: part of a message may come from a site."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)

"""The command line: every command in one table, imported when it is called (hides Typer, exit codes, and how errors look)."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

import click
import typer
import typer.core
import typer.main

from icp.errors import BadInput, IcpError

__all__ = ["COMMANDS", "app", "main"]

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (module:function or module:app, panel, one line)
    "new": ("icp.commands.new:new", "Describe", "Print a steering file to begin with."),
    "validate": ("icp.commands.validate:validate", "Describe", "Find every mistake of a steering file."),
    "expand": ("icp.commands.expand:expand", "Describe", "Show what one job would run."),
    "graph": ("icp.commands.graph:graph", "Describe", "Draw the DAG of a steering file."),
    "schema": ("icp.commands.schema:schema", "Describe", "Print the JSON Schema of steering files, for editors."),
    "local": ("icp.commands.local:local", "Describe", "Run one job here in the foreground, to debug it."),
    "demo": ("icp.commands.demo:demo", "Run", "Show a whole dataset on this machine, in half a minute."),
    "submit": ("icp.commands.submit:submit", "Run", "Record a dataset and give its first jobs to the sites."),
    "run": ("icp.commands.run:run", "Run", "Run the engine, in a loop or once for cron."),
    "status": ("icp.commands.status:status", "Look", "Datasets, sites and the engine, at a glance."),
    "jobs": ("icp.commands.jobs:jobs", "Look", "Jobs of a dataset."),
    "tasks": ("icp.commands.tasks:tasks", "Look", "Tasks of a dataset."),
    "show": ("icp.commands.show:show", "Look", "Everything about a dataset, a job or a task."),
    "logs": ("icp.commands.logs:logs", "Look", "What a task printed."),
    "why": ("icp.commands.why:why", "Look", "Why something does not move, and what mends it."),
    "stats": ("icp.commands.stats:stats", "Look", "Statistics of a dataset's tasks."),
    "outputs": ("icp.commands.outputs:outputs", "Look", "Where outputs are."),
    "suspend": ("icp.commands.control:suspend", "Control", "Send nothing more of a dataset, or of some jobs."),
    "resume": ("icp.commands.control:resume", "Control", "Go on with what is suspended."),
    "retry": ("icp.commands.control:retry", "Control", "Let failed tasks go again."),
    "reset": ("icp.commands.control:reset", "Control", "Do jobs anew; what they did is void."),
    "cancel": ("icp.commands.control:cancel", "Control", "Give up a dataset, or some jobs."),
    "set": ("icp.commands.control:set_", "Control", "Change a dataset's priority."),
    "delete": ("icp.commands.control:delete", "Control", "Forget a dataset under its name."),
    "ledger": ("icp.commands.ledger:app", "Keep", "Check, back up or adopt the ledger."),
    "config": ("icp.commands.config:app", "Keep", "Show, set and explain the configuration."),
}


class _Commands(typer.core.TyperGroup):
    """Looks a command up in the table and imports its module only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        target, panel, short = COMMANDS[cmd_name]
        module, _, attribute = target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if isinstance(found, typer.Typer):
            one = found
            one.info.help = one.info.help or short
        else:
            one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            one.command(cmd_name, short_help=short, rich_help_panel=panel)(found)
        command = typer.main.get_command(one)
        command.name = cmd_name
        command.rich_help_panel = panel  # type: ignore[attr-defined]
        command.short_help = short
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            raise BadInput(f"there is no command {args[0]}" + (f"; did you mean {near[0]}?" if near else ""), "`icp --help` lists them")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    name="icp",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("icp-pool")
        except PackageNotFoundError:
            number = "0.1.0"
        typer.echo(f"icp {number}")
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Pool your own computing allocations: one steering file, every site you can reach, one ledger.

    Begin with `icp demo`, or with `icp new > steering.toml` and `icp submit steering.toml`.
    """
    if debug:
        os.environ["ICP_DEBUG"] = "1"


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code: 0 ok, 1 failed, 2 bad input, 3 not found, 4 refused, 5 unknown, 130 Ctrl-C."""
    words = sys.argv[1:] if argv is None else argv
    if "--debug" in words:
        os.environ["ICP_DEBUG"] = "1"
    try:
        code = app(words, prog_name="icp", standalone_mode=False)
    except IcpError as error:
        _tell(error)
        code = error.code
    except click.exceptions.Abort:
        code = 130
    except KeyboardInterrupt:
        code = 130
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = 2 if isinstance(error, click.UsageError) else error.exit_code
    except BrokenPipeError:
        # the reader of our output left: nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if os.environ.get("ICP_DEBUG"):
            raise
        sys.stderr.write(f"icp: this is a bug in icp: {type(error).__name__}: {error}\nrun it again with --debug before the command for the traceback\n")
        code = 1
    code = code if isinstance(code, int) else 0
    if argv is None:
        sys.stdout.flush()
        sys.exit(code)
    return code


def _tell(error: IcpError) -> None:
    if os.environ.get("ICP_DEBUG"):
        import traceback

        traceback.print_exc()
    for mistake in getattr(error, "mistakes", ()):
        typer.echo(mistake, err=True)
    typer.secho(f"icp: {error.message}", fg="red", err=True)
    if error.hint:
        typer.echo(f"  {error.hint}", err=True)


if __name__ == "__main__":
    main()

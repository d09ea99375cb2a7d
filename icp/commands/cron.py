"""`icp cron install | show | remove`: ticks while nobody is logged in (hides only the asking and the printing)."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import AsJson
from icp.errors import BadInput, Failed, NotFound, Refused
from icp.output import clean, paint

if TYPE_CHECKING:
    from icp.backends.timers import Timer, Work
    from icp.config import Config

__all__ = ["app", "installed", "log_of", "tag_of"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Let cron, systemd or SLURM tick while nobody is logged in.")

WAYS = ("crontab", "systemd", "scrontab")
EVERY = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)
SHOWN = 5
"""Lines of the log, and events, that `show` prints."""
NEEDED = {"slurm": "sbatch", "sge": "qsub", "condor": "condor_submit", "pbs": "qsub", "torque": "qsub", "lsf": "bsub"}
"""The command by which a batch system on this machine is known."""
_HOMES = ("ICP_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")

With = Annotated[str | None, typer.Option("--with", metavar="WAY", help=f"One of {', '.join(WAYS)}; without it the first that works here.", show_default=False)]


@app.command("install")
def install(
    way: With = None,
    every: Annotated[int, typer.Option("--every", metavar="MINUTES", help="Minutes between ticks: a divisor of 60.")] = 5,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="TEXT", help="With scrontab: an option of sbatch, such as --qos=cron.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at the environment, and print what would be installed.")] = False,
) -> None:
    """Let ticks go on while nobody is logged in.

    The same again changes nothing, other options replace what is there. Each site over ssh is tried as cron will see it, without a key agent.

    Examples:

      icp cron install

      icp cron install --with systemd --every 2

      icp cron install --with scrontab --option=--qos=cron --option=--account=phys
    """
    from icp import config as configuration

    if every not in EVERY:
        raise BadInput(f"--every {every}: expected a divisor of 60", f"one of {', '.join(map(str, EVERY))}")
    config = configuration.load()
    timer = _timer(way, dry_run)
    if option and timer.name != "scrontab":
        raise BadInput(f"--option is for scrontab, and this is {timer.name}")
    work = _work(config, every, tuple(option or ()))
    for _, text in _environment(config, work):
        output.say(text)
    if dry_run:
        output.say(f"{timer.name} would have:")
        output.say(clean_text(timer.shown(work)))
        return
    others = [one for one in WAYS if one != timer.name and _has(one, work.tag)]
    before = timer.installed(work.tag)
    timer.install(work)
    if timer.installed(work.tag) == "":
        raise Failed(f"{timer.name} took the line, and does not show it", f"look at `{timer.name} -l`")
    word = "is there already" if before == timer.installed(work.tag) else "ticks from now on"
    output.say(f"{timer.name} {word}, every {every} min on {os.uname().nodename}:")
    output.say(clean_text(timer.shown(work)))
    for note in timer.notes():
        output.say(paint("note: ", "yellow") + clean(note))
    for other in others:
        output.say(paint("note: ", "yellow") + f"{other} has one too: `icp cron remove --with {other}`")
    output.say(f"log: {log_of(config)}; what you want to be told of: `icp config explain notify.command`")


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Show what ticks here, and what it did last.

    The last tick, the end of the log, and the events that you were told, or were not.

    Example:

      icp cron show
    """
    from icp import config as configuration

    config = configuration.load()
    tag = tag_of(config)
    now = time.time()
    found = installed(config)
    last, told = _ledger_says(config)
    end = _end_of(log_of(config))
    if as_json:
        output.print_json({"tag": tag, "installed": found, "log": str(log_of(config)), "last_tick": last, "log_end": end, "notices": told})
        return
    for name, text in found.items():
        output.say(f"{paint(name, 'bold')} on {os.uname().nodename}:")
        output.say(clean_text(text))
    if not found:
        output.say(f"nothing ticks on {os.uname().nodename} by itself: `icp cron install`")
    output.say(f"last tick: {output.ago(last, now)}")
    output.say(f"log: {log_of(config)}" + ("" if end else ", which is not there yet"))
    for line in end:
        output.say(f"  {clean(line)}")
    if told:
        output.say("events:")
    for one in told:
        word = {"new": "not told yet", "begun": "told, and nobody saw how that ended", "unasked": "nobody asked"}.get(one.state, one.state)
        output.say(f"  {output.ago(one.at, now)}: {clean(one.text)} ({word}{': ' + clean(one.said) if one.said else ''})")


@app.command("remove")
def remove(
    way: With = None, dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would go, and change nothing.")] = False
) -> None:  # fmt: skip
    """Take away what ticks for this home, and nothing else.

    Without --with wherever it is.

    Example:

      icp cron remove
    """
    from icp import config as configuration
    from icp.backends.timers import TIMERS

    tag = tag_of(configuration.load())
    if way is not None:
        _known(way)
    gone = False
    for name in WAYS if way is None else (way,):
        text = _has(name, tag)
        if not text:
            continue
        gone = True
        if not dry_run:
            TIMERS[name].remove(tag)
            if _has(name, tag):
                raise Failed(f"{name} still shows it", f"look at `{name} -l`")
        output.say(f"{name} {'would lose' if dry_run else 'lost'}:")
        output.say(clean_text(text))
    if not gone:
        output.say("nothing was installed")


def installed(config: Config) -> dict[str, str]:
    """What ticks for this home on this machine: way -> its text."""
    tag = tag_of(config)
    return {name: text for name in WAYS if (text := _has(name, tag))}


def tag_of(config: Config) -> str:
    """The name of this home among all of a person's: its state directory's."""
    return "icp-" + hashlib.sha256(os.fsencode(config.places.state)).hexdigest()[:8]


def log_of(config: Config) -> Path:
    """The log of ticks that nobody watches."""
    return config.places.state / "cron.log"


def clean_text(text: str) -> str:
    return output.clean_lines(text)


def _known(way: str) -> None:
    if way not in WAYS:
        raise BadInput(f"--with {way}: expected one of {', '.join(WAYS)}")


def _timer(way: str | None, dry_run: bool) -> Timer:
    from icp.backends.timers import TIMERS

    if way is not None:
        _known(way)
        why = TIMERS[way].missing()
        if why and not dry_run:
            raise NotFound(f"--with {way}: {why}", f"another one of {', '.join(WAYS)}, or `icp run` in tmux")
        return TIMERS[way]
    missing = [(timer, timer.missing()) for timer in TIMERS.values()]
    for timer, why in missing:
        if not why:
            return timer
    if dry_run:
        return TIMERS[WAYS[0]]
    raise Refused("nothing here can tick by itself: " + "; ".join(why for _, why in missing), "`icp run` in tmux or screen")


def _has(name: str, tag: str) -> str:
    from icp.backends.timers import TIMERS

    timer = TIMERS[name]
    if name != "systemd" and timer.missing():
        return ""
    try:
        return timer.installed(tag)
    except Failed:
        return ""


def _work(config: Config, every: int, options: tuple[str, ...]) -> Work:
    from icp.backends.timers import Work

    env = {name: os.path.abspath(os.path.expanduser(os.environ[name])) for name in _HOMES if os.environ.get(name)}
    if "ICP_HOME" in env:
        env = {"ICP_HOME": env["ICP_HOME"]}
    env["PATH"] = os.pathsep.join(_path(config))
    argv = (*_program(), "run", "--once", "--log", str(log_of(config)))
    return Work(tag_of(config), every, argv, env, config.places.state / "cron.out", options)


def _program() -> tuple[str, ...]:
    """How this very icp is called from anywhere: by absolute paths."""
    script = Path(sys.argv[0]).absolute()
    if script.name == "__main__.py" or not script.is_file():
        return sys.executable, "-m", "icp"
    return sys.executable, str(script)


def _commands(config: Config) -> dict[str, str]:
    """command -> the site that needs it on this machine"""
    needed: dict[str, str] = {}
    for site in config.sites.values():
        command = "ssh" if site.host is not None else NEEDED.get(site.scheduler)
        if command is not None:
            needed.setdefault(command, site.name)
    return needed


def _path(config: Config) -> list[str]:
    """The directories in which what a tick calls is found, and the usual ones."""
    found = ["/usr/bin", "/bin"]
    for command in _commands(config):
        place = shutil.which(command)
        if place is not None and not shutil.which(command, path=os.pathsep.join(found)):
            found.insert(0, os.path.dirname(os.path.abspath(place)))
    return found


def _environment(config: Config, work: Work) -> list[tuple[bool, str]]:
    """(well, sentence) for all that a tick needs and cron may lack."""
    from concurrent.futures import ThreadPoolExecutor

    path = work.env["PATH"]
    said = [(False, paint("note: ", "yellow") + f"{command} is not found here, and site {clean(site)} needs it")
            for command, site in _commands(config).items() if not shutil.which(command, path=path)]  # fmt: skip
    away = [site for site in config.sites.values() if site.host is not None]
    environ = {"PATH": path, "HOME": os.environ.get("HOME", str(Path.home())), "LOGNAME": os.environ.get("LOGNAME", ""), "SHELL": "/bin/sh"}
    with ThreadPoolExecutor(8) as pool:
        for texts in pool.map(lambda site: _reached(config, site, environ), away):
            said += [texts]
    return said


def _reached(config: Config, site: Any, environ: dict[str, str]) -> tuple[bool, str]:
    from icp.backends.openssh import OpenSSH
    from icp.engine.lines import transport

    way = transport(config, site)
    assert isinstance(way, OpenSSH)
    trouble = way.without_agent(environ)
    name = clean(site.name)
    if trouble is None:
        return True, f"site {name}: reached without a key agent, as cron will"
    if trouble.kind not in ("login", "person"):
        return False, paint("note: ", "yellow") + f"site {name}: {clean(trouble.text)}"
    texts: Sequence[str] = (
        f"site {name} will need `icp login {name}`: {clean(trouble.sentence)}.",
        "  The connection that is open now is used as long as it lasts." if way.connected else "  Until then it gets nothing, and nothing of it fails.",
        "  A connection that `icp login` opened is kept until the site ends it (docs/unattended.md).",
    )
    if trouble.kind == "login":  # where a password or a code is asked for beside it, a key does not help
        texts = (*texts, "  To get by without: a key without a passphrase that is for this alone (IdentityFile in ~/.ssh/config), where the site allows that.")
    return False, paint("note: ", "yellow") + "\n".join(texts)


def _ledger_says(config: Config) -> tuple[float | None, list[Any]]:
    from icp.ledger import notices, views
    from icp.ledger.db import open_ledger

    try:
        ledger = open_ledger(config.ledger)
    except NotFound:
        return None, []
    found = views.engine(ledger.db).last_tick, notices.last(ledger.db, SHOWN)
    ledger.close()
    return found


def _end_of(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 20_000))
            return file.read().decode("utf-8", "replace").splitlines()[-SHOWN:]
    except OSError:
        return []

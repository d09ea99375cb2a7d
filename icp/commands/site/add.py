"""`icp site add`: looks at a host, shows one screen, asks once, writes the table of a site (hides the screen)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icp import output
from icp.commands.arguments import AsJson, Yes
from icp.output import clean

if TYPE_CHECKING:
    from icp.backends.survey import Survey
    from icp.config import Config
    from icp.engine.proposal import Asked, Proposal

__all__ = ["add"]


def _option(*names: str, **more: Any) -> Any:
    """An option without a default of its own."""
    return typer.Option(*names, show_default=False, **more)


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new site: an alias of ~/.ssh/config, or anything with --host.", show_default=False)],
    host: Annotated[str | None, _option("--host", metavar="HOST", help="What you type after `ssh`, where that is not NAME.")] = None,
    here: Annotated[bool, typer.Option("--here", help="The machine, or the cluster, that you are logged in to.")] = False,
    scheduler: Annotated[str | None, _option("--scheduler", metavar="S", help="Its batch system (default: found); none: the host itself.")] = None,
    root: Annotated[str | None, _option("--root", metavar="DIR", help="Where its spool is made; workers must see it (default: ~/.icp/NAME there).")] = None,
    partition: Annotated[str | None, _option("--partition", "-p", metavar="P", help="Partition or queue.")] = None,
    account: Annotated[str | None, _option("--account", "-A", metavar="A", help="Account or project that is charged.")] = None,
    walltime: Annotated[str | None, _option("--walltime", "-t", metavar="TIME", help="Of one pilot, such as '8 h' (default: the limit, at most 8 h).")] = None,
    cpus: Annotated[int | None, _option("--cpus", "-c", min=1, metavar="N", help="Of one pilot on each node (default: a node's, at most 8).")] = None,
    memory: Annotated[str | None, _option("--memory", metavar="SIZE", help="Of one pilot on each node, such as '16 GB' (default: the cpus' share).")] = None,
    gpus: Annotated[int | None, _option("--gpus", min=0, metavar="N", help="Of one pilot on each node.")] = None,
    most: Annotated[int | None, _option("--max", min=1, metavar="N", help="Pilots at once (default: 10; 1 without a batch system).")] = None,
    max_pending: Annotated[int | None, _option("--max-pending", min=1, metavar="N", help="Pilots that wait to start, at once (default: 2).")] = None,
    python: Annotated[str | None, _option("--python", metavar="PATH", help="The Python there (default: found).")] = None,
    attribute: Annotated[list[str] | None, _option("--attribute", metavar="NAME=VALUE", help="What `$attr(NAME)` is there; may be given again.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Look at a host and make it a site. Nothing is submitted, and nothing is written before you agree.

    It finds the batch system, partitions and their limits, accounts, Python, and a place for the spool. Before it, `ssh NAME true` must work
    without a question.

    Examples:

      icp site add nsa

      icp site add mogon --host login.mogon.example --account m2_abc --partition smp

      icp site add here --here --yes
    """
    from icp.config import load
    from icp.engine.proposal import Asked, choices, propose

    config = load()
    _check_name(config, name, host, here)
    asked = Asked(
        name, None if here else host or name, scheduler, root, partition, account, walltime, cpus, memory, gpus, most, max_pending, python,
        _attributes(attribute or []),
    )  # fmt: skip
    survey = _survey(config, asked)
    questions = [] if yes else choices(survey, asked)
    asking = bool(questions) and sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    if asking:
        _found(survey, asked)
    chosen = _chosen(survey, asked, questions, asking)
    proposal = propose(survey, chosen)
    _check_apart(config, proposal)
    kept = _kept_local(config)
    if not as_json:
        if not asking:
            _found(survey, asked)
        _proposed(config, asked, proposal, kept)
    if not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty() and not typer.confirm(f"Write this to {config.places.config}?", default=True):
        output.say("nothing was written")
        return
    _write(config, name, proposal, kept)
    if as_json:
        output.print_json({"site": name, "config": config.places.config, "keys": proposal.keys, "notes": proposal.notes, "found": survey})
        return
    output.say(f"site {name} is in {clean(config.places.config)}; a running engine takes it up when it is started again")
    output.say(f"next: `icp site check {name}` runs a short job there, to the end")


def _check_name(config: Config, name: str, host: str | None, here: bool) -> None:
    import re

    from icp.config import NAME
    from icp.errors import BadInput

    if here and host is not None:
        raise BadInput("--here and --host: expected one of them", "--here is the machine that you are logged in to")
    if not NAME.match(name) or "." in name:
        short = re.sub(r"[^A-Za-z0-9_-]", "-", name.rpartition("@")[2].partition(".")[0]) or "site"
        raise BadInput(f"{name!r} is no name of a site: expected letters, digits, '_' and '-'", f"`icp site add {short} --host {name}`")
    from icp.config import values

    if any(path.startswith(f"site.{name}.") for path in values(config.places)):
        raise BadInput(f"there is a site {name} already in {config.places.config}",
                       f"`icp config set site.{name}.KEY VALUE` changes it, `icp site remove {name}` takes it away, or choose another name")  # fmt: skip


def _check_apart(config: Config, proposal: Proposal) -> None:
    """Two sites never share one spool's place."""
    from icp.errors import BadInput

    where = (proposal.keys.get("host"), proposal.keys["root"])
    for one in config.sites.values():
        if (one.host, str(one.root)) == where:
            raise BadInput(f"{where[1]} is the root of site {one.name} already: each site needs a directory of its own", "choose another --root")


def _attributes(said: list[str]) -> dict[str, Any]:
    from icp.errors import BadInput

    found: dict[str, Any] = {}
    for one in said:
        name, equals, text = one.partition("=")
        if not equals or not name.isidentifier():
            raise BadInput(f"--attribute {one}: expected NAME=VALUE, such as GPU=true")
        lower = text.lower()
        if lower in ("true", "false"):
            found[name] = lower == "true"
        else:
            try:
                found[name] = int(text) if text.lstrip("-").isdigit() else float(text)
            except ValueError:
                found[name] = text
    return found


def _survey(config: Config, asked: Asked) -> Survey:
    from icp.backends.base import Unknown
    from icp.backends.batch import system
    from icp.backends.openssh import OpenSSH
    from icp.backends.survey import look
    from icp.commands.login import log_in
    from icp.config import Site
    from icp.engine.canary import trouble_of
    from icp.engine.lines import transport
    from icp.errors import Unreachable
    from icp.model.plan import PilotSpec

    if asked.scheduler is not None:
        system(asked.scheduler)
    site = Site(name=asked.name, zone="", root=None, attributes={}, system={}, env={}, scratch=None, pilot=PilotSpec(), host=asked.host)
    way = transport(config, site)
    if isinstance(way, OpenSSH):
        way.try_now()  # a person asks: nobody is told to come back later
    found = look(way, scheduler=asked.scheduler, root=asked.root)
    if isinstance(found, Unknown) and isinstance(way, OpenSSH) and way.needs_login:
        if not sys.stdin.isatty():
            raise Unreachable(trouble_of(site, way, found.why).message, f"`icp site add {asked.name}` at a terminal: ssh asks there, and the connection stays")
        output.warn(f"{asked.host} wants a person: ssh asks here, and the connection stays open for what follows (`icp login {asked.name}` opens the next one)")
        log_in(asked.name, way)
        found = look(way, scheduler=asked.scheduler, root=asked.root)
    if isinstance(found, Unknown):
        raise trouble_of(site, way, found.why)
    return found


def _chosen(survey: Survey, asked: Asked, questions: list[Any], asking: bool) -> Asked:
    """What several answers were possible to is asked; on no terminal, the option is named."""
    from dataclasses import replace

    from icp.errors import BadInput

    said: dict[str, Any] = {}
    for one in questions:
        answers = ", ".join(one.answers)
        if not asking:
            raise BadInput(f"there is more than one {one.what} at {survey.host}: {answers}", f"{one.option} {one.default}, or --yes for the defaults")
        text = ""
        while text not in one.answers:
            text = typer.prompt(f"Which {one.what} ({answers})?", default=one.default)
        said[one.option.removeprefix("--")] = text
    return replace(asked, **said)


def _found(survey: Survey, asked: Asked) -> None:
    """What the host showed."""

    def row(word: str, text: str) -> None:
        output.say(f"  {word:<11} {clean(text)}")

    output.say(f"{asked.name}: {clean(survey.user)} at {clean(survey.host)}" + ("" if asked.host is None else f" (ssh {asked.host})"))
    memory = f", {survey.memory / 1e9:.0f} GB" if survey.memory else ""
    row("host", f"{survey.cpus} cpus{memory}" + (f", {survey.gpus} gpus" if survey.gpus else ""))
    row("python", f"{survey.python_version}, {survey.python}" if survey.python else f"not found; as asked: {asked.python}")
    batch = survey.batch
    if survey.scheduler == "none":
        row("batch", "none: pilots are started on the host itself")
    else:
        accounting = {True: "accounting answers", False: "no accounting", None: "whether there is accounting is not known"}[batch.accounting]
        row("batch", f"{survey.scheduler} {batch.version}".strip() + f"; {accounting}")
        for line in _partitions(survey):
            output.say(line)
        if batch.accounts:
            row("accounts", ", ".join(one.name + (f" (in {one.partition})" if one.partition else "") + "*" * one.default for one in batch.accounts[:12]))
    for disk in survey.disks:
        free = f", {disk.free / 1e9:.0f} GB free" if disk.free is not None else ""
        row(disk.name, f"{disk.path} ({disk.kind or 'file system not known'}{free})"
            + ("" if disk.writable else f": cannot be written, {disk.why}"))  # fmt: skip
    for quota in survey.quotas:
        row("quota", quota)
    output.say()


def _proposed(config: Config, asked: Asked, proposal: Proposal, kept: bool) -> None:
    """The table as it will be written."""
    from icp.config import table_text

    for line in table_text(f"site.{asked.name}", proposal.keys).splitlines():
        output.say(clean(line))
    output.say()
    for note in proposal.notes:
        output.say(clean(note))
    if kept:
        output.say("this machine, where something is at work, stays a site too: [site.local]")
    elif list(config.sites) == ["local"] and not _configured(config):
        output.say("this machine is not used any more once a site is configured; `icp config set site.local.scheduler none` keeps it")


def _partitions(survey: Survey) -> list[str]:
    """The table of partitions, closed ones too; of many the first."""
    from icp.engine.proposal import written

    rows = []
    for one in survey.batch.partitions[:20]:
        size = f"{one.cpus}" if one.largest in (None, one.cpus) else f"{one.cpus}-{one.largest}"
        rows.append([
            "  " + (clean(one.name) + "*" * one.default if one.name else "(pool)"),
            "no limit" if one.limit is None else written(one.limit), str(one.nodes), size,
            f"{one.memory / 1e9:.1f} GB" if one.memory and one.memory >= 2**30 else "-", str(one.gpus or "-"),
            "" if one.open else "closed",
        ])  # fmt: skip
    return [] if not rows else ["", *output.table(["  partition", ">walltime", ">nodes", ">cpus", ">memory", ">gpus", ""], rows), ""]


def _configured(config: Config) -> bool:
    from icp.config import values

    return any(path.startswith("site.") for path in values(config.places))


def _kept_local(config: Config) -> bool:
    """Whether this machine, which is the one site as long as none is configured, has work of ours that a table for another would strand."""
    from icp.errors import IcpError
    from icp.ledger import sites
    from icp.ledger.db import open_ledger

    if _configured(config):
        return False
    try:
        ledger = open_ledger(config.ledger)
    except IcpError:
        return False
    number = sites.number_of(ledger.db, "local")
    return number is not None and sites.anything_there(ledger.db, number)


def _write(config: Config, name: str, proposal: Proposal, kept: bool) -> None:
    from icp.config import add_table

    add_table(config.places, f"site.{name}", proposal.keys)
    if kept and name != "local":
        add_table(config.places, "site.local", {"scheduler": "none"})

"""The pilot's command line: exchange, send, receive, run, submit, alone, launch, ps, kill, probe, checkup, canary, clear (hides which
room does what).
"""

import sys

USAGE = """\
usage: pilot.pyz exchange --root SPOOL [--root SPOOL ...] [--ledger UUID]
       pilot.pyz send --root SPOOL ATTEMPT NAME OFFSET LENGTH
       pilot.pyz receive --root SPOOL SHA256 OFFSET SIZE
       pilot.pyz run --spool SPOOL --pilot ID [--node-index N]
       pilot.pyz submit --root DIR
       pilot.pyz alone DIR
       pilot.pyz bagged --spool BAG --pilot ID [--node-index N]
       pilot.pyz launch DIR
       pilot.pyz ps ROOT
       pilot.pyz kill DIR [--now]
       pilot.pyz probe [--root SPOOL]
       pilot.pyz checkup [--root DIR] [--scratch DIR] [--software JSON]
       pilot.pyz canary watch|meet|work|carried|look --spool SPOOL [--pilot ID] [--node-index N] [--seconds N] [--software JSON]
       pilot.pyz clear --root DIR --ledger UUID [--dry-run] [--check]
"""


class Usage(Exception):
    """The command line is wrong; the text says how."""


def options(words: "list[str]", known: "tuple[str, ...]") -> "tuple[dict[str, str], list[str]]":
    """({option: value}, the other words); raises Usage."""
    found, rest = {}, []
    words = list(words)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            if word not in known or not words:
                raise Usage(f"{word} {'needs a value' if word in known else 'is not known here'}")
            found[word] = words.pop(0)
        else:
            rest.append(word)
    return found, rest


def main(words: "list[str]") -> int:
    """Runs one subcommand; its exit code (2 for a wrong command line)."""
    try:
        return _main(words)
    except Usage as error:
        sys.stderr.write(f"pilot: {error}\n{USAGE}")
        return 2


def _main(words: "list[str]") -> int:
    command = words[0] if words else ""
    if command == "exchange":
        given, rest = options([word for word in words[1:] if word != "--root"], ("--ledger",))
        if not rest or words.count("--root") != len(rest):
            raise Usage("exchange needs --root SPOOL, once for each spool")
        from . import exchange

        return exchange.main(rest, given.get("--ledger"))
    if command in ("send", "receive"):
        given, rest = options(words[1:], ("--root",))
        if "--root" not in given or len(rest) != (4 if command == "send" else 3) or not all(one.isdigit() for one in rest[-2:]):
            raise Usage(f"{command} needs --root SPOOL, what, and two numbers")
        from . import transfer

        numbers = int(rest[-2]), int(rest[-1])
        return transfer.send(given["--root"], rest[0], rest[1], *numbers) if command == "send" else transfer.receive(given["--root"], rest[0], *numbers)
    if command == "bagged":
        given, rest = options(words[1:], ("--spool", "--pilot", "--node-index"))
        if "--spool" not in given or "--pilot" not in given or rest:
            raise Usage("bagged needs --spool BAG and --pilot ID")
        from . import bag

        return bag.main(given["--spool"], given["--pilot"], int(given.get("--node-index", "0")))
    if command == "run":
        given, rest = options(words[1:], ("--spool", "--pilot", "--node-index"))
        if "--spool" not in given or "--pilot" not in given or rest:
            raise Usage("run needs --spool SPOOL and --pilot ID")
        from . import supervisor

        return supervisor.main(given["--spool"], given["--pilot"], int(given.get("--node-index", "0")))
    if command in ("submit", "alone"):
        given, rest = options(words[1:], ("--root",))
        if (command == "submit") != ("--root" in given) or len(rest) != (command == "alone"):
            raise Usage("submit needs --root DIR, alone a directory")
        from . import alone

        return alone.run(rest[0]) if command == "alone" else alone.submit(given["--root"], sys.stdin.buffer)
    if command in ("launch", "ps", "kill"):
        now = "--now" in words
        rest = [word for word in words[1:] if word != "--now"]
        if len(rest) != 1 or (now and command != "kill"):
            raise Usage(f"{command} needs one directory")
        from . import background

        if command == "kill":
            return background.kill(rest[0], now)
        return background.launch(rest[0]) if command == "launch" else background.ps(rest[0])
    if command == "probe":
        given, rest = options(words[1:], ("--root",))
        if rest:
            raise Usage("probe takes no directory but with --root")
        from . import offer

        return offer.probe(given.get("--root"))
    if command == "checkup":
        given, rest = options(words[1:], ("--root", "--scratch", "--software"))
        if rest:
            raise Usage("checkup takes options alone")
        import json

        from . import checkup

        return checkup.main(given.get("--root"), given.get("--scratch"), json.loads(given.get("--software", "{}")))
    if command == "canary":
        return _canary(words[1:])
    if command == "clear":
        dry, check = "--dry-run" in words, "--check" in words
        given, rest = options([word for word in words[1:] if word not in ("--dry-run", "--check")], ("--root", "--ledger"))
        if rest or "--root" not in given or "--ledger" not in given:
            raise Usage("clear needs --root DIR and --ledger UUID")
        from . import clear

        return clear.main(given["--root"], given["--ledger"], dry, check)
    raise Usage(f"no subcommand {command!r}" if command else "which subcommand?")


def _canary(words: "list[str]") -> int:
    given, rest = options(words, ("--spool", "--pilot", "--node-index", "--seconds", "--software"))
    if len(rest) != 1 or "--spool" not in given or rest[0] not in ("watch", "meet", "work", "carried", "look"):
        raise Usage("canary needs one of watch, meet, work, carried and look, and --spool SPOOL")
    from . import canary

    root, seconds = given["--spool"], float(given.get("--seconds", "600"))
    if rest[0] == "look":
        return canary.look(root, given.get("--pilot", ""))
    if rest[0] in ("work", "carried"):
        import json

        software = json.loads(given.get("--software", "{}"))
        if rest[0] == "carried":
            return canary.carried(root, software)
        return canary.work(root, given.get("--node-index", "0"), seconds, software)
    return canary.watch(root, seconds) if rest[0] == "watch" else canary.meet(root, seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

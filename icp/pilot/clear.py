"""Takes away what is ours at a site: one ledger's spool, and the programs when nobody else's spool is beside them (hides
how it is known to be ours).
"""

import json
import os
import re
import sys

from . import spool
from .disk import remove_tree
from .lock import Busy, Lock

__all__ = ["main"]

_LEDGER = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_PROGRAM = re.compile(r"^pilot-[0-9a-f]{16}\.pyz(?:\.\d+)?$")


def main(root: str, ledger: str, dry: bool, check: bool = False) -> int:
    """Removes ``root/ledger`` if its owner is this ledger, then what is empty; prints what it did as JSON. 4: it is not ours.

    ``check``: only that, the place of a site's check.
    """
    if not _LEDGER.match(ledger):
        sys.stderr.write(f"clear: {ledger!r} is not a ledger\n")
        return 4
    root = os.path.abspath(root)
    mine = f"{root}/{ledger}"
    told: "dict[str, object]" = {"spool": False, "programs": 0, "others": []}
    try:
        if os.path.lexists(mine):
            told["spool"] = True
            _spool(mine, ledger, dry)
        if os.path.isdir(root) and not check:
            _beside(root, ledger, dry, told)
        elif check and not dry:
            _empty(root)
    except (spool.Unsafe, Busy, ValueError) as error:
        sys.stderr.write(f"clear: {error}\n")
        return 4
    except OSError as error:
        sys.stderr.write(f"clear: {error.filename or root}: {error.strerror}\n")
        return 1
    sys.stdout.write(json.dumps(told, sort_keys=True) + "\n")
    return 0


def _spool(mine: str, ledger: str, dry: bool) -> None:
    spool.check_root(mine)
    where = spool.Spool(mine)
    with Lock(mine):
        with open(where.owner, "rb") as stream:
            owner = json.loads(stream.read().decode("ascii")).get("ledger")
        if owner != ledger:
            raise ValueError(f"{mine} belongs to the ledger {owner}")
        if dry:
            return
        for name in os.listdir(mine):
            if name not in ("owner", "lock", "lock.d", "lock.folder"):
                _remove(f"{mine}/{name}")
    # The owner goes last: what was interrupted can be done again.
    remove_tree(mine)
    if os.path.lexists(mine):
        raise ValueError(f"{mine} could not be removed whole")


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
    else:
        os.unlink(path)


def _beside(root: str, ledger: str, dry: bool, told: "dict[str, object]") -> None:
    others = [name for name in sorted(os.listdir(root)) if name not in ("programs", "check", ledger)]
    told["others"] = others
    programs = root + "/programs"
    if any(_LEDGER.match(name) for name in others) or not os.path.isdir(programs) or os.path.islink(programs):
        return
    found = [name for name in os.listdir(programs) if _PROGRAM.match(name)]
    told["programs"] = len(found)
    if dry:
        return
    for name in found:
        os.unlink(f"{programs}/{name}")
    for folder in (programs, root + "/check", root):
        _empty(folder)


def _empty(folder: str) -> None:
    """A directory in which anything lies stays."""
    try:
        os.rmdir(folder)
    except OSError:
        pass

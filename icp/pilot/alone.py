"""Jobs that nobody looks after: submitted straight to the batch system, each runs its tasks by itself (hides how one task
finds what another one made).
"""

import json
import os
import sys

from . import framing, spool
from .disk import Disk
from .here import run_card_here
from .orders import fill, run_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["run", "submit"]

SUBMIT_TIMEOUT = 60
_OUTPUT = 64 * 1024


def submit(root: str, stream: "BinaryIO") -> int:
    """Takes frames: ``pack`` (its bytes are the shipped files) and ``job`` (its folder's name, the command that submits
    it, its files as JSON). Prints a line of JSON for each job, as it is submitted; 0, or 1 where the frames break off.
    """
    disk = Disk()
    os.makedirs(root, mode=0o700, exist_ok=True)
    frames, _ = framing.read_until_end(stream)
    for one in frames:
        if one.kind == "pack":
            disk.put(root + "/pack.tar", one.body)
        elif one.kind == "job":
            name = spool.check_name(one.meta["job"])
            told = _submit_one(disk, root, f"{root}/{name}", one.meta["argv"], json.loads(one.body.decode("utf-8")))
            sys.stdout.write(json.dumps(dict(told, job=name), sort_keys=True) + "\n")
            sys.stdout.flush()
    return 0 if frames and frames[-1].kind == "end" else 1


def _submit_one(disk: Disk, root: str, folder: str, argv: "list[str]", files: "dict[str, str]") -> "dict[str, Any]":
    try:
        os.mkdir(folder, 0o700)
        for name, text in sorted(files.items()):
            disk.put(f"{folder}/{spool.check_name(name)}", text.encode("utf-8"))
    except OSError as error:
        return {"rc": 1, "out": "", "err": f"{folder}: {error.strerror}"}
    return run_command(fill(argv, root, folder), folder, SUBMIT_TIMEOUT, _OUTPUT)


def run(folder: str) -> int:
    """Runs the tasks of ``folder/job.json`` in order, each in ``folder/TASK``; what they print goes to ``job.out`` and
    ``job.err``, how they ended to ``result.json``. 0 if all are ok.
    """
    folder = os.path.abspath(folder)
    with open(folder + "/job.json", encoding="utf-8") as stream:
        job = json.load(stream)
    made: dict[str, list[list[Any]]] = {}
    where: dict[str, str] = {}
    facts = []
    with open(folder + "/job.out", "ab") as out, open(folder + "/job.err", "ab") as err:
        for spec in job["attempts"]:
            spec["in"] = spec.get("in", []) + [
                {"name": name, "from": ["store", parent], "sha256": sha256}
                for parent, index in spec.pop("reads")
                for number, name, _, sha256 in made[parent]
                if number == index
            ]
            card = {"card": spec["a"], "attempts": [spec]}

            def source(origin: "list[str]", name: str) -> str:
                return f"{where[origin[1]]}/{name}"

            fact = run_card_here(
                card, folder, source, lambda sha256: job["pack"], out, err, job.get("transfer"), job.get("software")
            )[0]
            made[spec["a"]] = fact.get("out") or []
            where[spec["a"]] = f"{folder}/{spec['task']}"
            facts.append(dict(fact, task=spec["task"]))
            sys.stdout.write(f"{spec['task']}: {fact['r']}{'' if fact['r'] == 'ok' else ': ' + str(fact.get('err'))}\n")
            sys.stdout.flush()
            if fact["r"] != "ok":
                break
    Disk().put(folder + "/result.json", json.dumps(facts, sort_keys=True).encode("ascii"))
    return 0 if all(fact["r"] == "ok" for fact in facts) else 1

"""Many files become one: bytes, lines below one header, or JSON (hides what adding means for each)."""

import json
import shutil

from icp.pilot.module import Module, Parameter, Stats
from icp.pilot.modules import chosen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

__all__ = ["Merge"]


class Merge(Module):
    """Makes one file of many: one after the other, CSV with one header, or JSON added up."""

    files = Parameter(list, [], "patterns of files, in order")
    names = Parameter(str, "", "a file that names them, one a line; `inputs.list` in a final task")
    out = Parameter(str, help="the file that is made")
    format = Parameter(
        str,
        "bytes",
        "bytes: one after the other; csv: the header once; json: numbers are added, lists joined (of equal lengths and "
        "only numbers: added), tables merged",
        choices=["bytes", "csv", "json"],
    )

    def execute(self, stats: Stats) -> None:
        names = chosen(self.files)
        if self.names:
            with open(self.names, encoding="utf-8") as stream:
                names += [line.rstrip("\n") for line in stream if line.strip()]
        if not names:
            raise ValueError("there is nothing to merge: give `files`, or `names`, a list that names some")
        with open(self.out, "wb") as out:
            getattr(self, "_" + self.format)(names, out)
        stats.increment("merge.files", len(names))

    def _bytes(self, names: "list[str]", out: "BinaryIO") -> None:
        for name in names:
            with open(name, "rb") as stream:
                shutil.copyfileobj(stream, out, 1 << 20)

    def _csv(self, names: "list[str]", out: "BinaryIO") -> None:
        header = None
        for name in names:
            with open(name, "rb") as stream:
                first = stream.readline().rstrip(b"\r\n")
                if header is None:
                    header = first
                    out.write(first + b"\n")
                elif first and first != header:
                    raise ValueError(f"the header of {name} is {first.decode('utf-8', 'replace')!r}, not that of {names[0]}")
                for line in stream:
                    out.write(line if line.endswith(b"\n") else line + b"\n")

    def _json(self, names: "list[str]", out: "BinaryIO") -> None:
        total = None
        for number, name in enumerate(names):
            with open(name, encoding="utf-8") as stream:
                value = json.load(stream)
            total = value if number == 0 else added(total, value, name)
        out.write(json.dumps(total).encode("utf-8"))


def added(one: "Any", other: "Any", where: str) -> "Any":
    """Two values of JSON as one; ValueError where they are of different kinds, or are two texts that differ."""
    numbers = (int, float)
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            key: added(one[key], other[key], f"{where}: {key}") if key in one and key in other else one.get(key, other.get(key))
            for key in [*one, *(key for key in other if key not in one)]
        }
    if isinstance(one, list) and isinstance(other, list):
        if len(one) == len(other) and all(type(part) in numbers for part in one + other):
            return [a + b for a, b in zip(one, other)]
        return one + other
    if type(one) in numbers and type(other) in numbers:
        return one + other
    if one == other:
        return one
    raise ValueError(f"{where}: {json.dumps(other)[:60]} cannot be added to {json.dumps(one)[:60]}")

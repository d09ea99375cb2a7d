"""How a step that is a Python module becomes a process: a command and files that any Python can start from (hides
where the pilot's own modules lie for it).
"""

import json
import os
import pkgutil

from .stage import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["PythonStart", "settled"]

BOOT = (
    "import sys; sys.version_info >= (3, 6) or sys.exit('a module needs Python 3.6 or newer, and this is '"
    " + sys.executable + ' ' + sys.version.split()[0]); sys.path[0] = sys.argv[1];"
    " from icp.pilot.python_step import main; sys.exit(main(sys.argv[2]))"
)


class PythonStart:
    """Writes what a module is to do, and says how it is started."""

    def __init__(self, folder: str) -> None:
        """``folder`` is node-local and a task can read it; the pilot's own modules are laid there when one is needed."""
        self.folder = folder
        self._ready = False

    def command(self, wanted: "dict[str, Any]", request: str, python: str) -> "list[str]":
        """The argv of a step that does what is ``wanted``: ``request`` is the path where it will find that, ``python`` a
        program, or its name to be found in the step's PATH. Problem.
        """
        try:
            self.lay()
            self._write(wanted, request)
        except OSError as error:
            raise Problem("node", f"a Python module cannot be prepared: {error}") from error
        return [python, "-c", BOOT, self.folder, request]

    def _write(self, wanted: "dict[str, Any]", request: str) -> None:
        with open(request, "w", encoding="utf-8") as stream:
            json.dump(wanted, stream)

    def lay(self) -> None:
        """Lays the package ``icp.pilot`` into the folder, where an interpreter can keep it compiled."""
        if self._ready:
            return
        _lay("icp.pilot", self.folder + "/icp/pilot")
        with open(self.folder + "/icp/__init__.py", "w", encoding="utf-8") as stream:
            stream.write('"""What modules of a task may import: icp.pilot alone."""\n')
        self._ready = True


def _lay(package: str, folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    path = __import__(package, fromlist=["__path__"]).__path__
    names = [("__init__", False), *((one[1], one[2]) for one in pkgutil.iter_modules(path))]
    for name, is_package in names:
        if is_package:
            _lay(f"{package}.{name}", f"{folder}/{name}")
            continue
        data = pkgutil.get_data(package, name + ".py")
        if data is not None:
            with open(f"{folder}/{name}.py", "wb") as stream:
                stream.write(data)


def settled(step: "dict[str, Any]", fill: "Callable[[Any], str]") -> "dict[str, Any]":
    """What a step's module is to do; ``fill`` gives the text of what only the node knows."""
    wanted: dict[str, Any] = step["python"]
    if not wanted.get("marks"):
        return wanted
    wanted = json.loads(json.dumps(wanted))
    for path, element in wanted.pop("marks"):
        place = wanted["params"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = fill(element)
    return wanted

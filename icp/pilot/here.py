"""A card's attempts in the foreground, without an agent, as it would run them (hides where what they print
goes).
"""

import os
import signal
import time

from . import offer
from .disk import remove_tree
from .problem import Unrun
from .runner import Runner, returned
from .stage import Problem, Stage
from .task import Pack, Slot, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, BinaryIO

__all__ = ["run_card_here"]


def run_card_here(
    card: "dict[str, Any]",
    directory: str,
    source_of: "Callable[[list[str], str], str]",
    pack_of: "Callable[[str], str]",
    out: "BinaryIO | None" = None,
    err: "BinaryIO | None" = None,
    commands: "dict[str, dict[str, list[str]]] | None" = None,
    software: "dict[str, Any] | None" = None,
) -> "list[dict[str, Any]]":
    """Runs the attempts of a card one after the other as an agent would, in the foreground: their ``ended`` facts.

    ``commands`` fetch and store by URL. Each has its own ``directory/<task>/``, which is made new and stays, with files and outputs in it;
    ``directory/.<task>/`` holds what it printed (``out``, ``err``), which is also copied to the streams, and its
    statistics. ``source_of(from, name)`` and ``pack_of(sha256)`` give the paths of inputs and packs; an input made by
    an earlier attempt of the card is taken from its directory. Raises OSError where the directory cannot be written.
    """
    os.makedirs(directory, exist_ok=True)
    directory = os.path.abspath(directory)
    made: dict[str, str] = {}

    def find(origin: "list[str]", name: str) -> str:
        return f"{made[origin[1]]}/{name}" if origin[0] == "store" and origin[1] in made else source_of(origin, name)

    hidden = directory + "/.icp"
    remove_tree(hidden)
    os.mkdir(hidden)
    stage = Stage(find, pack_of, None, hidden, commands)
    runner = Runner(stage, "local", hidden, offer.platform_name, lambda attempt: None, software=software)
    facts: list[dict[str, Any]] = []
    good: set[str] = set()
    known: dict[tuple[str, str], str] = {}
    for spec in card["attempts"]:
        if any(one not in good for one in spec.get("after") or ()):
            facts.append(returned(spec, "a task before it did not end well"))
            continue
        slot = _HereSlot(directory, spec["task"])
        made[spec["a"]] = slot.work
        gpus = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        fact = _drive(runner.attempt(Task(spec, slot), Pack(None), known, gpus), slot, out, err)
        slot.close()
        facts.append(fact)
        if fact["r"] == "ok":
            good.add(spec["a"])
    return facts


class _HereSlot(Slot):
    """``directory/<task>`` as the working directory, everything else in ``directory/.<task>``."""

    def __init__(self, directory: str, task: str) -> None:
        hidden = f"{directory}/.{task}"
        remove_tree(hidden)
        Slot.__init__(self, hidden)
        os.rmdir(self.work)
        self.work = f"{directory}/{task}"
        remove_tree(self.work)
        os.mkdir(self.work)

    def refresh(self, links: "dict[str, str] | None" = None) -> bool:  # noqa: ARG002 - none are there yet
        """Everything is new."""
        return False


def _drive(
    life: "Generator[Any, Any, dict[str, Any]]", slot: Slot, out: "BinaryIO | None", err: "BinaryIO | None"
) -> "dict[str, Any]":
    copied = {slot.out: 0, slot.err: 0}

    def show() -> None:
        for fd, stream in ((slot.out, out), (slot.err, err)):
            data = os.pread(fd, 1 << 20, copied[fd])
            if data and stream is not None:
                stream.write(data)
                stream.flush()
            copied[fd] += len(data)

    step: Any = life.send
    value: Any = None
    try:
        while True:
            wanted = step(value)
            if callable(wanted):
                try:
                    step, value = life.send, wanted()
                except (Problem, Unrun, OSError) as error:
                    step, value = life.throw, error
                continue
            pid = 0
            try:
                while not pid:
                    pid, status, usage = os.wait4(wanted, os.WNOHANG)
                    show()
                    if not pid:
                        time.sleep(0.02)
            finally:
                # What a task leaves running ends with it, and with Ctrl-C.
                _kill_session(wanted)
            step, value = life.send, (status, usage)
    except StopIteration as done:
        show()
        return done.value  # type: ignore[no-any-return]


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass

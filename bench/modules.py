"""One-line Python modules per second of one agent on two slots, beside `python3 -c pass` as commands in the same run.

python bench/modules.py [--tasks 10000] [--commands 1000] [--rounds 3] [--python PYTHON]
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tarfile
import time

from agent_noop import agent

TEXT = b"""from icp.pilot.module import Module


class One(Module):
    def execute(self, stats):
        stats["one"] = 1
"""


def pack() -> bytes:
    """The shipped file, as submitting packs it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        info = tarfile.TarInfo("one.py")
        info.size = len(TEXT)
        tar.addfile(info, io.BytesIO(TEXT))
    return target.getvalue()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--tasks", type=int, default=10000)
    options.add_argument("--commands", type=int, default=1000, help="how many of `python3 -c pass`")
    options.add_argument("--cards", type=int, default=200, help="tasks per card")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--python", default=sys.executable, help="interpreter of the pilot and of the tasks")
    given = options.parse_args()
    module = {"python": {"file": "one.py", "class": "One", "params": {}}}
    command = {"argv": ["python3", "-c", "pass"]}
    ratios: list[float] = []
    work: list[float] = []
    for _ in range(given.rounds):
        begin = time.perf_counter()
        cold = agent(given.commands, given.cards, given.python, command)
        warm = agent(given.tasks, given.cards, given.python, module, pack())
        assert all(fact["stats"] == {"one": 1} for fact in warm.ended)
        ratios.append(warm.rate / cold.rate)
        work.append(cold.cpu / warm.cpu)
        print(
            f"python3 -c pass {cold.rate:6.0f} tasks/s {cold.cpu * 1e3:6.2f} ms   modules {warm.rate:6.0f} tasks/s {warm.cpu * 1e3:6.2f} ms   "
            f"ratio {ratios[-1]:.2f}, of processor time {work[-1]:.2f}   ({time.perf_counter() - begin:.0f} s)",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}, of processor time {statistics.median(work):.2f}")


if __name__ == "__main__":
    main()

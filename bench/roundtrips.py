"""What a tick with a thousand finished tasks costs over a slow link, in round trips. Root, with `tests/lab/install.sh` done.

    python bench/roundtrips.py [--delay 200] [--tasks 1000] [--ticks 3]

The same tick, by an engine of its own as cron starts it, with and without a delay on the link to a SLURM cluster of the lab; the
connection is there already. The difference, divided by the delay, is the number of round trips, those of the transfer included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.lab.muons_home import MANY, Muons
from tests.lab.sites import NEEDED, Lab, Sshd


def tick(home: Muons, tasks: int, delay: float) -> tuple[float, int]:
    """Seconds of a tick that brings ``tasks`` finished ones over a link with this delay (ms for a round trip), and its sessions."""
    site = home.sites["nsb"]
    if home.ok():
        home.again()
    wanted = home.attempts() + tasks
    while not home.all_claimed_and_done("nsb", wanted):
        if home.attempts() < wanted or not home.batch("nsb", "RUNNING"):
            home.once()
        time.sleep(1)
    site.net("delay", delay)
    seen = Sshd(site)
    begin = time.perf_counter()
    home.once()
    seconds = time.perf_counter() - begin
    site.net("up")
    return seconds, seen.sessions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=200, help="ms for a round trip, half of it each way")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=3)
    given = parser.parse_args()
    if os.geteuid() != 0 or any(shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin") is None for name in NEEDED):
        print("there is no lab here: it takes root, and tests/lab/install.sh")
        return 0
    lab = Lab(98)
    with tempfile.TemporaryDirectory(prefix="icp-bench-") as folder:
        try:
            steering = Path(folder, "many.toml")
            steering.write_text(MANY.format(jobs=given.tasks, nap=0))
            home = Muons(Path(folder, "home"), {"nsb": lab.site("b", 12, "slurm", 2, 8)}, jobs=given.tasks, seed=1, gpu="nsb", steering=steering)
            try:
                tick(home, given.tasks, 0)  # what is only done once
                times = {delay: [tick(home, given.tasks, delay) for _ in range(given.ticks)] for delay in (0.0, given.delay)}
            finally:
                home.close()
        finally:
            lab.down()
    quick, slow = (median(seconds for seconds, _ in several) for several in times.values())
    print(f"tick with {given.tasks} finished tasks: {quick:.2f} s, with {given.delay:.0f} ms for a round trip {slow:.2f} s")
    print(f"round trips, those of the transfer included: {(slow - quick) * 1000 / given.delay:.1f}")
    print(f"sessions of such a tick: {sorted({sessions for several in times.values() for _, sessions in several})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

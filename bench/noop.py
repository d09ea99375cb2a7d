"""10,000 x /bin/true on two slots: icp against HyperQueue, Parsl's HTEX and a bare posix_spawn loop, in one run.

Rounds are interleaved, so that a machine whose speed drifts is the same for all; the output of every task is captured; icp's time
runs from submission to the last task recorded in the ledger. Prints tasks per second of each round, median ratios, and fsyncs per task.

    python bench/noop.py [--tasks 10000] [--rounds 5] [--only icp,bare] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STEERING = 'jobs = {n}\ncommand = ["/bin/true"]\nresources = {{ memory = "50 MB", disk = "1 MB" }}\n'


def icp(n: int, folder: Path, prefix: tuple[str, ...] = ()) -> float:
    """Submit, run until done; the pilot leaves after the clock stopped."""
    (folder / "noop.toml").write_text(STEERING.format(n=n))
    env = {**os.environ, "ICP_HOME": str(folder / "home"), "ICP_NODE_DIR": str(folder / "node")}
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text("[site.local.pilot]\ncpus = 2\nidle = 1\n")
    command = [*prefix, sys.executable, "-m", "icp"]
    begin = time.perf_counter()
    subprocess.run([*command, "submit", "noop.toml", "--watch"], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - begin
    said = subprocess.run([sys.executable, "-m", "icp", "status", "--json"], cwd=folder, env=env, check=True, capture_output=True, text=True).stdout
    assert '"complete"' in said, said
    for _ in range(200):
        subprocess.run([sys.executable, "-m", "icp", "run", "--once"], cwd=folder, env=env, check=True)
        if not any((folder / "node").rglob("*.json")):
            break
        time.sleep(0.1)
    return took


def hyperqueue(n: int, folder: Path) -> float:
    """Its Python API: one server, one worker of two cores, one job of n tasks, stdout and stderr to files as it does by default."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from hyperqueue import Job, LocalCluster; from hyperqueue.cluster import WorkerConfig\n"
        "n = int(sys.argv[1])\n"
        "with LocalCluster(None, WorkerConfig(cores=2)) as cluster:\n"
        "    client = cluster.client(); job = Job(default_workdir=Path('out').absolute())\n"
        "    for i in range(n): job.program(['/bin/true'])\n"
        "    begin = time.perf_counter(); submitted = client.submit(job); client.wait_for_jobs([submitted]); print(time.perf_counter() - begin)\n"
    )
    return _script(script, n, folder)


def parsl_htex(n: int, folder: Path) -> float:
    """bash apps on HTEX with two workers, stdout and stderr to files."""
    script = (
        "import sys, time, parsl\n"
        "from parsl import bash_app; from parsl.config import Config; from parsl.executors import HighThroughputExecutor as H\n"
        "from parsl.providers import LocalProvider\n"
        "n = int(sys.argv[1])\n"
        "provider = LocalProvider(init_blocks=1, max_blocks=1)\n"
        "config = Config(executors=[H(max_workers_per_node=2, cores_per_worker=0.5, address='127.0.0.1', provider=provider)])\n"
        "with parsl.load(config):\n"
        "    @bash_app\n"
        "    def true(i, stdout=None, stderr=None): return '/bin/true'\n"
        "    true(-1, stdout='w.out', stderr='w.err').result()\n"
        "    begin = time.perf_counter()\n"
        "    waiting = [true(i, stdout=f'out/{i}.out', stderr=f'out/{i}.err') for i in range(n)]\n"
        "    [one.result() for one in waiting]; print(time.perf_counter() - begin)\n"
    )
    (folder / "out").mkdir()
    return _script(script, n, folder)


def bare(n: int, folder: Path) -> float:
    """posix_spawn with two outstanding, stdout and stderr to one file each."""
    script = (
        "import os, sys, time\n"
        "n = int(sys.argv[1]); out = os.open('out', os.O_WRONLY | os.O_CREAT); err = os.open('err', os.O_WRONLY | os.O_CREAT)\n"
        "actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]; begin = time.perf_counter(); left = n\n"
        "def spawn(): os.posix_spawn('/bin/true', ['/bin/true'], os.environ, file_actions=actions)\n"
        "for _ in range(2): spawn(); left -= 1\n"
        "for _ in range(n):\n"
        "    pid, status, usage = os.wait4(-1, 0); assert status == 0\n"
        "    if left: spawn(); left -= 1\n"
        "print(time.perf_counter() - begin)\n"
    )
    return _script(script, n, folder)


def _script(text: str, n: int, folder: Path) -> float:
    """Run a peer's script in a process of its own: the seconds that it prints last."""
    (folder / "script.py").write_text(text)
    # HTEX starts its interchange by name, from the environment that it is installed in
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "script.py", str(n)], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr[-2000:]}\nthe peer's script failed with exit {done.returncode}")
    return float(done.stdout.strip().splitlines()[-1])


RUNS: dict[str, Callable[[int, Path], float]] = {"icp": icp, "hyperqueue": hyperqueue, "parsl": parsl_htex, "bare": bare}


def fsyncs(n: int) -> float | None:
    """fsync, fdatasync and sync_file_range calls per task of all of icp's processes, counted by strace in a run of its own."""
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = folder / "strace.log"
        icp(n, folder, ("strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", str(log)))
        return len(re.findall(r"f(?:data)?sync\(", log.read_text())) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(RUNS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-fsyncs", action="store_true")
    options = parser.parse_args()
    names = options.only.split(",")
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            with tempfile.TemporaryDirectory() as place:
                took = RUNS[name](options.tasks, Path(place))
            rates[name].append(options.tasks / took)
            print(f"round {number + 1} {name:<11} {took:7.2f} s {options.tasks / took:8.0f} tasks/s", flush=True)
    result: dict[str, object] = {"tasks": options.tasks, "cpus": os.cpu_count(), "rates": rates}
    if "icp" in rates:
        for name in names:
            if name != "icp":
                ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["icp"], rates[name], strict=True))
                result[f"icp / {name}"] = round(ratio, 2)
                print(f"icp / {name}: median ratio {ratio:.2f}")
        if not options.no_fsyncs:
            each = fsyncs(options.tasks)
            result["fsyncs per task"] = each
            print("fsyncs per task: " + ("not counted: strace is not installed" if each is None else f"{each:.4f}"))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Seconds of one plan for 25 sites, 45,000 cores and 2,400 datasets: python bench/plan.py"""

import statistics
import time

from icp.model.need import Need
from icp.model.plan import AgentView, ClassView, DatasetView, DefView, PilotSpec, PilotView, Policy, SiteView, Snapshot
from icp.planner import plan
from icp.states import Task

SITES, AGENTS, CPUS = 25, 75, 24
DATASETS, TASKS, NEEDS = 2400, 5, 60
GB = 10**9


def snapshot(queued: int) -> Snapshot:
    """Every dataset has five task definitions, each with tasks that wait, are queued and are processed; needs are shared as in real use.

    ``queued``: tasks of each definition that wait at a site already; with some every site is full, with none all is to be dealt.
    """
    node = AgentView(cpus=CPUS, memory=96 * GB, disk=1000 * GB, gpus=0, attrs={"CPU": True}, left=None)
    sites = tuple(
        SiteView(
            id=i, name=f"site{i}", zone=i, attributes={"GPU": i % 5 == 0, "os": f"el{7 + i % 3}"}, node=node, agents=(node,) * AGENTS,
            pilots=(PilotView(False),) * AGENTS, spec=PilotSpec(cpus=CPUS, max=100, max_pending=10),
        )
        for i in range(1, SITES + 1)
    )  # fmt: skip
    needs = {
        i: Need(
            any=((("CPU", "==", True),),) if i % 3 else ((("os", "==", f"el{7 + i % 2}"),), (("GPU", "==", True),)),
            cpus=1 + i % 4,
            memory=(1 + i % 8) * GB,
        )
        for i in range(1, NEEDS + 1)
    }
    datasets = tuple(DatasetView(i, i % 7, 10_000) for i in range(1, DATASETS + 1))
    defs = {
        10 * d + t: DefView(10 * d + t, d, t, t == 0, 600.0 + t) for d in range(1, DATASETS + 1) for t in range(TASKS)
    }
    classes = []
    for one in defs.values():
        need = 1 + one.id % NEEDS
        classes.append(ClassView(one.dataset, one.id, need, one.id % SITES, 0, int(Task.WAITING), 20))
        site = 1 + one.id % SITES
        if queued:
            classes.append(ClassView(one.dataset, one.id, need, 0, site, int(Task.QUEUED), queued))
        classes.append(ClassView(one.dataset, one.id, need, 0, site, int(Task.PROCESSING), 4))
    return Snapshot(datasets, defs, needs, tuple(classes), sites)


def main() -> None:
    policy = Policy()
    print(f"{SITES} sites, {SITES * AGENTS * CPUS} cores, {DATASETS} datasets, {DATASETS * TASKS} task definitions")
    for name, queued in (("every site full", 1), ("every site empty", 0)):
        shown = snapshot(queued)
        seconds = []
        for _ in range(9):
            begin = time.perf_counter()
            actions = plan(shown, policy, 0.0)
            seconds.append(time.perf_counter() - begin)
        print(
            f"{name}: {statistics.median(seconds):.3f} s (median of {len(seconds)}, best {min(seconds):.3f} s), {len(actions)} actions"
        )


if __name__ == "__main__":
    main()

"""Tasks rendered per second, needs and cards, for a definition of seven tasks with expressions: python bench/render.py [JOBS]"""

import sys
import time

from icp.dsl.expand import JobContext, Renderer, SiteContext
from icp.dsl.steering import parse

TEXT = """
name = "seven"
jobs.scan = { energy = [1, 10, 100], run = 100_000 }
[steering]
primary = "$choice(PPlus, He4Nucleus, Fe56Nucleus)"
base = "$sprintf('%06d', $args(run))"
[task.generate]
command = "generate --seed $args(seed) --energy $args(energy) --primary $steering(primary) --out $steering(base).gz"
outputs = ["$steering(base).gz"]
[task.propagate]
inputs = ["generate:$steering(base).gz"]
command = "propagate --seed $args(seed) --in $steering(base).gz --factor $eval(1.5 * $args(energy) if $args(energy) > 5 else 1)"
outputs = ["propagated.gz"]
resources = { memory = "$eval(1000 + 10 * $args(energy))", time = "2 h" }
[task.photons]
inputs = ["propagate:propagated.gz"]
command = ["photons", "--seed", "$args(seed)", "--scratch=$system(tmp)/p", "--data", "$system(data)/tables"]
outputs = ["photons.gz"]
resources = { gpus = 1 }
requirements = "$attr(GPUMemory) >= 5000 and not $attr(Slow)"
[task.detector]
inputs = ["photons:photons.gz"]
command = "detector --seed $args(seed) --run $args(run) photons.gz detected.gz"
outputs = ["detected.gz"]
[task.noise]
command = "noise --seed $args(seed) --out noise.gz"
outputs = ["noise.gz"]
[task.trigger]
inputs = ["detector:detected.gz", "noise:noise.gz"]
command = "trigger detected.gz noise.gz --out triggered.gz"
outputs = ["triggered.gz"]
[task.filter]
inputs = ["trigger:triggered.gz"]
command = "filter triggered.gz --name $args(dataset)-$steering(base) > 'level2.gz'"
outputs = ["level2.gz"]
"""


def main(jobs: int) -> None:
    steering = parse(TEXT)
    site = SiteContext("site", {"GPUMemory": 8000}, {"data": "/data"})
    renderers = [Renderer(steering, task) for task in steering.tasks]
    began = time.perf_counter()
    for number in range(jobs):
        job = JobContext("seven", 42, number, steering.jobs.count, steering.jobs.row(number))
        for renderer in renderers:
            renderer.need(job).id  # noqa: B018
            renderer.render(job, site)
    seconds = time.perf_counter() - began
    count = jobs * len(renderers)
    print(f"{count:,} tasks in {seconds:.2f} s: {count / seconds:,.0f} tasks/s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)

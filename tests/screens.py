"""A ledger and a clock that are the same each time, for screens that are looked at: `python -m tests.screens HOME N` makes one with N datasets."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.ledger.build import NOW, World, task

CLOCK = NOW + 4000
"""The moment in which the screens are looked at."""
ERR = "Traceback (most recent call last):\n  File \"detect.py\", line 17, in <module>\n    main()\nValueError: no hits in event 12\n"


def fill(home: Path, datasets: int) -> None:
    """One dataset at work at three sites; with more, those that are suspended, failed, complete, or wait, by turns."""
    home.mkdir(parents=True, exist_ok=True)
    world = World(home, path=home / "ledger.sqlite", site_names=("local", "nsa", "nsb"))
    for number in range(1, datasets):
        _other(world, number)
    _muons(world)
    world.db.execute("UPDATE dataset SET outputs = '/home/ana/outputs/' || name, directory = '/home/ana/muons'")
    world.db.execute("UPDATE command SET who = 'ana'")
    with world.ledger.write():
        world.ledger.set_meta("last_tick", CLOCK - 400)
    world.close()


def _other(world: World, number: int) -> None:
    kind = ("complete", "waiting", "suspended", "errors", "cancelled")[number % 5]
    name = ("calib", "noise-studies", "ic86-corsika-spectrum-with-a-long-name", "veto", "test")[number % 5] + f"-{number}"
    dataset = world.submit(2, task("a", max_tries=1, outputs=["a.txt"]), name=name, category=("ice", "veto", "")[number % 3])
    if kind == "complete":
        world.run(dataset, world.agents.get("shared") or _shared(world))
    elif kind == "suspended":
        world.control(dataset).suspend("20 identical failures of task a and no success")
    elif kind == "errors":
        agent = world.agents.get("shared") or _shared(world)
        world.release(dataset)
        tries = world.deal(dataset, site="local")
        world.claim(agent, *tries)
        world.ended(agent, *tries, result="error", err="bad input")
    elif kind == "cancelled":
        world.control(dataset).cancel()


def _shared(world: World):
    agent = world.agent("local", cpus=4)
    world.agents["shared"] = world.agents.pop(agent.name)
    return agent


def _muons(world: World) -> None:
    draw = random.Random(86)
    dataset = world.submit(
        200,
        task("generate", outputs=["showers.i3"]),
        task("propagate", inputs=["generate:showers.i3"], outputs=["photons.i3"]),
        task("detect", inputs=["propagate:photons.i3"], outputs=["level2.i3"], max_tries=1),
        task("spectrum", inputs=["detect:level2.i3[*]"], outputs=["spectrum.svg"], final=True),
        name="muons",
        category="ice",
    )  # fmt: skip
    world.release(dataset)
    agents = {site: world.agent(site, cpus=cpus) for site, cpus in (("nsa", 8), ("nsb", 4), ("local", 2))}
    began = world.now
    for step in range(60):
        world.now = began + 50 * step
        for site, agent in agents.items():
            tries = world.deal(dataset, {"nsa": 6, "nsb": 2, "local": 1}[site], site=site)
            if not tries:
                continue
            world.claim(agent, *tries)
            for one in tries:
                seconds = draw.uniform(20, 90)
                bad = one.task == "detect" and draw.random() < 0.08
                how = {"result": "error", "err": ERR} if bad else {"stats": {"hits": round(draw.gauss(100, 20), 1), "muons": draw.randint(0, 4)}}
                moment, world.now = world.now, world.now - seconds
                world.ended(agent, one, send=False, log=[0, 3, 4], seconds=seconds, **how)
                world.now = moment
            world.answer(agent)
        world.home()
    nsa = agents["nsa"]
    tries = world.deal(dataset, 9, site="nsa")
    world.claim(nsa, *tries[:5])
    world.running(nsa, *tries[:3])


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))

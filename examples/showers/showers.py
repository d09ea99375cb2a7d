"""Air showers: a toy of their first interaction, cut by zenith angle."""

import json
import math
import random

from icp.pilot.module import Module, Parameter


class Generate(Module):
    """Draws showers from a power law."""

    events = Parameter(int, 1000, "how many")
    seed = Parameter(int, help="of the generator")
    energy = Parameter(dict, {"min": 1e3, "max": 1e6, "index": 2.7}, "spectrum: GeV, GeV, spectral index")
    out = Parameter(str, "showers.csv", "the events, one a line")

    def execute(self, stats):
        draw = random.Random(self.seed)
        low, high, power = self.energy["min"], self.energy["max"], 1 - self.energy["index"]
        with open(self.out, "a") as out:
            for _ in range(self.events):
                energy = (low**power + draw.random() * (high**power - low**power)) ** (1 / power)
                zenith = math.degrees(math.acos(math.sqrt(draw.random())))
                out.write(f"{energy:.1f},{zenith:.2f}\n")
                stats.increment("generated")


class Cut(Module):
    """Keeps inclined showers, and counts them by energy."""

    infile = Parameter(str, help="events to read")
    outfile = Parameter(str, "hist.json", "counts by energy")
    zenith = Parameter(list, [60.0, 90.0], "from and to, degrees")
    bins = Parameter(str, "log", "how energies are counted", choices=["log", "linear"])

    def execute(self, stats):
        counts = [0] * 12
        with open(self.infile) as events:
            for line in events:
                energy, zenith = map(float, line.split(","))
                if self.zenith[0] <= zenith < self.zenith[1]:
                    counts[min(11, int(2 * math.log10(energy)) if self.bins == "log" else int(energy // 1e5))] += 1
        if not any(counts):
            raise ValueError(f"no shower between {self.zenith[0]} and {self.zenith[1]} degrees")
        stats["kept"] = sum(counts)
        with open(self.outfile, "w") as out:
            json.dump({"counts": counts}, out)

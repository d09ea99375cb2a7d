"""The modules of the chain: primaries are drawn, their showers computed, a detector sees them, and a plot shows what it saw."""

import csv
import math

from icp.pilot.module import Module, Parameter

NUCLEONS = {"proton": 1, "helium": 4, "nitrogen": 14, "iron": 56}


def rows(name):
    with open(name, newline="") as stream:
        return list(csv.DictReader(stream))


def append(name, columns, lines):
    """Adds lines to a table, below a header if it is new."""
    with open(name, "a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if not stream.tell():
            writer.writerow(columns)
        writer.writerows(lines)


class Primaries(Module):
    """Draws nuclei from a power law in energy, and evenly over the sky."""

    seed = Parameter(int, help="of the generator")
    kind = Parameter(str, "proton", "which nucleus", choices=sorted(NUCLEONS))
    showers = Parameter(int, 10, "how many")
    energy = Parameter(dict, {"min": 1e5, "max": 1e6, "index": 2.7}, "spectrum: GeV, GeV, spectral index")
    zenith = Parameter(float, 40.0, "largest zenith angle, degrees")
    out = Parameter(str, "primaries.csv", "one a line")

    def execute(self, stats):
        import numpy

        draw = numpy.random.default_rng(self.seed)
        low, high, power = self.energy["min"], self.energy["max"], 1.0 - self.energy["index"]
        energy = (low**power + draw.random(self.showers) * (high**power - low**power)) ** (1.0 / power)
        # through a level surface: evenly in the square of the cosine
        least = math.cos(math.radians(self.zenith)) ** 2
        cos = numpy.sqrt(least + draw.random(self.showers) * (1.0 - least))
        append(self.out, ["kind", "energy", "cos"], [(self.kind, f"{e:.6g}", f"{c:.6f}") for e, c in zip(energy, cos)])
        stats.increment("primaries", self.showers)


class Cascade(Module):
    """Computes the showers of primaries with a hadronic interaction model."""

    seed = Parameter(int, help="of the generator")
    primaries = Parameter(str, "primaries.csv", "what enters the air")
    model = Parameter(str, "sibyll23d", "interactions", choices=["sibyll21", "sibyll23d"])
    threshold = Parameter(float, 100.0, "GeV below which hadrons are not followed")
    muon = Parameter(float, 10.0, "GeV below which muons are not counted")
    ground = Parameter(float, 690.0, "vertical depth of the detector, g/cm2")
    out = Parameter(str, "showers.csv", "one a line")

    def execute(self, stats):
        from cascade import Showers

        made = Showers(self.model, self.seed, self.threshold, self.muon)
        lines = []
        for one in rows(self.primaries):
            depth, muons = made.shower(float(one["energy"]), NUCLEONS[one["kind"]], float(one["cos"]), self.ground)
            lines.append((self.model, one["kind"], one["energy"], one["cos"], f"{depth:.2f}", muons))
        append(self.out, ["model", "kind", "energy", "cos", "xmax", "muons"], lines)
        stats.increment("showers", len(lines))
        stats.increment("interactions", made.interactions)
        stats.increment("interactions." + self.model, made.interactions)


class Detect(Module):
    """Measures showers with an error, and drops those without a maximum above the ground."""

    seed = Parameter(int, help="of the generator")
    showers = Parameter(str, "showers.csv", "what arrives")
    resolution = Parameter(dict, {"energy": 0.1, "xmax": 20.0, "muons": 0.1}, "one sigma: relative, g/cm2, relative")
    ground = Parameter(float, 690.0, "vertical depth of the detector, g/cm2")
    out = Parameter(str, "events.csv", "one a line")

    def execute(self, stats):
        import numpy

        draw, lines = numpy.random.default_rng(self.seed), []
        for one in rows(self.showers):
            errors = draw.standard_normal(3)
            depth = float(one["xmax"]) + self.resolution["xmax"] * errors[1]
            if not 0 < depth < self.ground / float(one["cos"]):
                stats.increment("below.ground")
                continue
            energy = float(one["energy"]) * math.exp(self.resolution["energy"] * errors[0])
            muons = int(one["muons"]) * max(0.0, 1.0 + self.resolution["muons"] * errors[2])
            lines.append((one["model"], one["kind"], f"{energy:.6g}", f"{depth:.1f}", f"{muons:.1f}"))
        append(self.out, ["model", "kind", "energy", "xmax", "muons"], lines)
        stats.increment("events", len(lines))


class Plot(Module):
    """Means by model and kind as a table, and all events as a picture."""

    events = Parameter(str, "events.csv", "of all jobs")
    table = Parameter(str, "composition.csv", "means")
    picture = Parameter(str, "composition.svg", "Xmax against muons")
    scale = Parameter(float, 3e5, "GeV to which muons are scaled")

    def execute(self, stats):
        import numpy
        from picture import draw

        groups = {}
        for one in rows(self.events):
            # Muons grow with energy to the power 0.9, depths by 55 g/cm2 a decade: what is left tells the mass.
            far = math.log10(float(one["energy"]) / self.scale)
            point = (float(one["muons"]) * 10 ** (-0.9 * far), float(one["xmax"]) - 55.0 * far)
            groups.setdefault((one["model"], one["kind"]), []).append(point)
        lines = []
        for (model, kind), points in sorted(groups.items()):
            muons, depth = numpy.array(points).T
            count, spread = len(points), depth.std(ddof=1) if len(points) > 1 else 0.0
            lines.append((model, kind, count, f"{depth.mean():.1f}", f"{spread:.1f}", f"{muons.mean():.1f}"))
        append(self.table, ["model", "kind", "events", "xmax", "spread", "muons"], lines)
        with open(self.picture, "w", encoding="utf-8") as stream:
            stream.write(draw(groups))
        stats["plotted"] = sum(map(len, groups.values()))

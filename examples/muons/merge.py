"""Final: add the summaries of all jobs up to the vertical intensity against depth, as a table and as a plot."""

import argparse
import math

from muonlib import digits, read_json, read_rows, report, write_json, write_rows
from svgplot import draw

FEWEST = 50  # crossings tried: a bin with less of them is left out
TITLES = {
    "mei-hime": "Mei & Hime 2006, rock → ice",
    "heisinger": "Heisinger et al. 2002, rock → ice",
    "dumand": "DUMAND 1990, in sea water",
}
COMPARED = (1.45, 2.55)  # km w.e.: where the ratio to the published intensities is judged


def read_reference(path):
    """{source: [(depth km w.e., intensity, error or None)]} by rising depth."""
    published = {}
    for source, depth, _, intensity, error in read_rows(path):
        published.setdefault(source, []).append((float(depth), float(intensity), float(error) if error else None))
    return published


def published_at(points, depth):
    """Intensity of a published relation at ``depth``, by ln(intensity) between its points; None outside."""
    for low, high in zip(points, points[1:]):
        if low[0] <= depth <= high[0]:
            share = (depth - low[0]) / (high[0] - low[0])
            return math.exp(math.log(low[1]) * (1.0 - share) + math.log(high[1]) * share)
    return None


def merge(summaries):
    """The depth-intensity table: one dictionary per bin. Their order does not matter, to the last bit."""
    table = []
    for index in range(len(summaries[0]["tried"])):
        jobs = [{name: job[name][index] for name in ("tried", "depth", "seen", "seen2", "energy")} for job in summaries]
        total = {name: math.fsum(job[name] for job in jobs) for name in jobs[0]}
        if total["tried"] < FEWEST or not total["seen"]:
            continue
        intensity = total["seen"] / total["tried"]
        if len(jobs) >= 10:  # from job to job: muons that cross two layers within one bin are not independent
            spread = math.fsum((job["seen"] - intensity * job["tried"]) ** 2 for job in jobs)
            error = math.sqrt(spread * len(jobs) / (len(jobs) - 1.0)) / total["tried"]
        else:
            error = math.sqrt(total["seen2"]) / total["tried"]
        table.append(
            {
                "depth_kmwe": total["depth"] / total["tried"],
                "intensity_cm2_s_sr": intensity,
                "error_cm2_s_sr": error,
                "mean_energy_gev": total["energy"] / total["seen"],
                "crossings": total["tried"],
            }
        )
    return table


def main():
    # A file of arguments (@inputs.list) has one path a line: two hundred of them need no long command line.
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("summaries", nargs="+", help="summary.json of every job, or @FILE with one path a line")
    parser.add_argument("--reference", default="reference.csv")
    parser.add_argument("--out", default="depth_intensity", help="name of the results, without .csv, .json, .svg")
    options = parser.parse_args()

    summaries = [read_json(path) for path in options.summaries]
    published = read_reference(options.reference)
    curves = sorted(source for source, points in published.items() if len(points) > 1)
    table = merge(summaries)
    worst = 0.0
    for row in table:
        for source in curves:
            reference = published_at(published[source], row["depth_kmwe"])
            row["ratio_" + source.replace("-", "_")] = row["intensity_cm2_s_sr"] / reference if reference else None
            if reference and COMPARED[0] <= row["depth_kmwe"] <= COMPARED[1]:
                worst = max(worst, abs(row["intensity_cm2_s_sr"] / reference - 1.0))
    layers = []
    for layer, depth in enumerate(summaries[0]["layer_depth_m"]):
        flux = math.fsum(job["layer_flux_cm2_s"][layer] for job in summaries) / len(summaries)
        layers.append({"depth_m": depth, "flux_cm2_s": flux})
    result = {"jobs": len(summaries), "table": table, "layers": layers, "worst_difference": worst}
    write_json(options.out + ".json", result)

    names = ["depth_kmwe", "intensity_cm2_s_sr", "error_cm2_s_sr", "mean_energy_gev"]
    names += ["ratio_" + source.replace("-", "_") for source in curves]
    rows = [["" if row[name] is None else digits(float("%.4g" % row[name])) for name in names] for row in table]
    write_rows(options.out + ".csv", names, rows)
    with open(options.out + ".svg", "w", newline="\n", encoding="utf-8") as out:
        out.write(draw(table, published, TITLES, published_at, len(summaries)))
    report(worst_difference=worst, bins=len(table), jobs_merged=len(summaries))


if __name__ == "__main__":
    main()

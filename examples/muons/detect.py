"""Say which muons each layer of the detector saw; each seen one counts for those that were missed like it."""

import argparse
import math

from muonlib import SHORTEST_TRACK, digits, ice_medium, read_json, read_rows, report, stream, write_rows

BEST_EFFICIENCY = 0.95
TRACK_SCALE = 25.0  # m: longer tracks light more modules


def efficiency(track):
    """Chance that a layer sees a muon with ``track`` metres still to go."""
    if track < SHORTEST_TRACK:
        return 0.0
    return BEST_EFFICIENCY * (1.0 - math.exp(-track / TRACK_SCALE))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--tracks", required=True)
    parser.add_argument("--ice", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()

    rng = stream(options.seed, "detect")
    medium = ice_medium()
    density = read_json(options.ice)["density_g_cm3"]
    rows = []
    crossings = hits = 0
    for row in read_rows(options.tracks):
        seen = []
        for text in row[4:]:
            energy = float(text)
            a, _, _, _, _, b = medium.cell(energy)
            chance = efficiency(math.log(1.0 + b * energy / a) / b / density / 100.0)
            crossings += 1
            if rng.random() < chance:
                hits += 1
                seen.append("%s:%s" % (digits(1.0 / chance), text))
            else:
                seen.append("")
        rows.append(row[:4] + seen)
    write_rows(options.out, ("muon", "cos_theta", "weight_cm2_s", "vertical_cm2_s_sr", "inverse_efficiency:gev"), rows)
    report(layer_crossings=crossings, layer_hits=hits)


if __name__ == "__main__":
    main()

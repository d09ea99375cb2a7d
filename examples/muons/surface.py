"""Source: muons at the surface, with the weights that turn them into the flux of cosmic rays."""

import argparse
import math

from muonlib import digits, lattice, power_law, report, stream, surface_flux, write_rows

LEAST_OVERBURDEN = 1.25e5  # g/cm2: a little less than what lies above the highest layer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--muons", type=int, default=600)
    parser.add_argument("--cos-min", type=float, default=0.5, help="cosine of the largest zenith angle")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()

    rng = stream(options.seed, "surface")
    rows = []
    hardest = 0.0
    for number, (first, second) in enumerate(lattice(rng, options.muons)):
        cos_theta = options.cos_min + (1.0 - options.cos_min) * second
        energy, density = power_law(first, LEAST_OVERBURDEN / cos_theta)
        solid_angle = 2.0 * math.pi * (1.0 - options.cos_min)
        weight = surface_flux(energy, cos_theta) * solid_angle / density / options.muons
        vertical = surface_flux(energy, 1.0) / density
        hardest = max(hardest, energy)
        rows.append([str(number)] + [digits(value) for value in (energy, cos_theta, weight, vertical)])
    write_rows(options.out, ("muon", "energy_gev", "cos_theta", "weight_cm2_s", "vertical_cm2_s_sr"), rows)
    report(surface_muons=options.muons, surface_hardest_gev=hardest)


if __name__ == "__main__":
    main()

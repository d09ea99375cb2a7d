"""Follow every muon down through the ice and write its energy at each layer of the detector.

This is the step that photon and muon propagators put on a GPU. This one only asks for a site that has GPUs.
"""

import argparse

from muonlib import digits, ice_medium, read_json, read_rows, report, stream, write_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--surface", required=True)
    parser.add_argument("--ice", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()

    rng = stream(options.seed, "propagate")
    medium = ice_medium()
    layers = read_json(options.ice)["grammage_g_cm2"]
    rows = []
    arrived = losses = 0
    for number, energy, cos_theta, weight, vertical in read_rows(options.surface):
        slant = [grammage / float(cos_theta) for grammage in layers]
        energies, hard = medium.propagate(float(energy), slant, rng)
        arrived += bool(energies)
        losses += hard
        rows.append([number, cos_theta, weight, vertical] + [digits(energy) for energy in energies])
    write_rows(options.out, ("muon", "cos_theta", "weight_cm2_s", "vertical_cm2_s_sr", "energies_gev"), rows)
    report(muons_arrived=arrived, hard_losses=losses)


if __name__ == "__main__":
    main()

"""Source: the glacier above the detector of one job, and where the detector's layers are in it."""

import argparse
import math

from muonlib import ICE_DENSITY, report, stream, write_json

FIRN_SURFACE = 0.36  # g/cm3, packed snow on top
FIRN_LENGTH = 55.0  # m, e-folding depth of the firn: some 33 m of air in all
DENSITY_SPREAD = 0.002  # how well the density of the bulk is known
LAYERS = 11


def overburden(depth, density):
    """Grammage in g/cm2 above ``depth`` metres: bulk ice, less the air in the firn."""
    air = (density - FIRN_SURFACE) * FIRN_LENGTH * (1.0 - math.exp(-depth / FIRN_LENGTH))
    return 100.0 * (density * depth - air)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--top", type=float, default=1450.0, help="depth of the highest layer, in m")
    parser.add_argument("--bottom", type=float, default=2450.0, help="depth of the lowest layer, in m")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()

    rng = stream(options.seed, "ice")
    density = ICE_DENSITY * (1.0 + DENSITY_SPREAD * (2.0 * rng.random() - 1.0))
    step = (options.bottom - options.top) / (LAYERS - 1)
    depths = [options.top + step * layer for layer in range(LAYERS)]
    grammages = [overburden(depth, density) for depth in depths]
    write_json(options.out, {"density_g_cm3": density, "depth_m": depths, "grammage_g_cm2": grammages})
    report(ice_density_g_cm3=density)


if __name__ == "__main__":
    main()

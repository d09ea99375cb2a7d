"""Histogram what one job's detector saw: by slant depth, each muon weighted to the vertical; by layer, the flux."""

import argparse
import math

from muonlib import KM_WE, SHORTEST_TRACK, read_json, read_rows, report, write_json

FIRST_EDGE = 1.25  # km w.e.
BIN_WIDTH = 0.1  # km w.e.
BINS = 18  # centred on 1.3, 1.4, ... 3.0 km w.e.


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", required=True)
    parser.add_argument("--ice", required=True)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()

    ice = read_json(options.ice)
    # Per bin of slant depth: crossings tried, their depths; of those seen the weight, its square, weight times energy.
    columns = {name: [[] for _ in range(BINS)] for name in ("tried", "depth", "seen", "seen2", "energy")}
    # A muon is seen if it would come this far below the layer: that is the depth at which it counts.
    shortest = 100.0 * SHORTEST_TRACK * ice["density_g_cm3"] / KM_WE
    layers = [[] for _ in ice["grammage_g_cm2"]]
    for row in read_rows(options.hits):
        cos_theta, weight, vertical = (float(text) for text in row[1:4])
        for layer, grammage in enumerate(ice["grammage_g_cm2"]):
            depth = grammage / cos_theta / KM_WE + shortest
            index = int(math.floor((depth - FIRST_EDGE) / BIN_WIDTH))
            inside = 0 <= index < BINS
            if inside:
                columns["tried"][index].append(1.0)
                columns["depth"][index].append(depth)
            hit = row[4 + layer] if len(row) > 4 + layer else ""
            if not hit:
                continue
            inverse, energy = (float(text) for text in hit.split(":"))
            layers[layer].append(weight * inverse)
            if inside:
                columns["seen"][index].append(vertical * inverse)
                columns["seen2"][index].append((vertical * inverse) ** 2)
                columns["energy"][index].append(vertical * inverse * energy)
    result = {name: [math.fsum(values) for values in lists] for name, lists in columns.items()}
    result["layer_depth_m"] = ice["depth_m"]
    result["layer_flux_cm2_s"] = [math.fsum(values) for values in layers]
    write_json(options.out, result)
    report(top_layer_flux_cm2_s=result["layer_flux_cm2_s"][0], bottom_layer_flux_cm2_s=result["layer_flux_cm2_s"][-1])


if __name__ == "__main__":
    main()

"""Print reference.csv: published depth-intensity relations, at depths in ice.

    python3 make_reference.py > reference.csv

The published relations hold in standard rock. Ice and rock stop muons alike, but not quite: a depth in ice stands
beside the depth in rock that stops the same muon (equal mean range), which near 2 km w.e. is 3 % more.
"""

import math

from muonlib import KM_WE, ice_medium, rock_medium

HEADER = """\
# Published vertical muon intensities against depth.
#
# mei-hime   D.-M. Mei and A. Hime, Phys. Rev. D 73 (2006) 053004, eq. 1: a fit to the world's measurements in standard
#            rock, I(h) = I1 exp(-h/l1) + I2 exp(-h/l2), I1 = (8.60 +- 0.53)e-6, I2 = (0.44 +- 0.06)e-6 cm-2 s-1 sr-1,
#            l1 = 0.45 +- 0.01, l2 = 0.87 +- 0.02 km w.e., 1 to 10 km w.e. The error is that of I1 and I2 alone.
# heisinger  B. Heisinger et al., Earth Planet. Sci. Lett. 200 (2002) 345, eq. 1 (to 2 km w.e.) and 2 (beyond): a fit to
#            measurements in standard rock; 258.5 exp(-5.5e-4 h) / ((h + 210) ((h + 10)^1.66 + 75)) with h in hg/cm2,
#            and 1.82e-6 (1211/h)^2 exp(-h/1211) + 2.84e-13. No error is given.
# dumand     J. Babson et al. (DUMAND), Phys. Rev. D 42 (1990) 3613: measured in the sea, at 2090 m w.e.
#
# The first two are given in standard rock. depth_rock_kmwe is where they were evaluated: the depth in rock that stops
# the muons which depth_kmwe of ice stops (equal mean range, losses of muonlib.py). Sea water stands for ice as it is.
"""


def mei_hime(depth):
    """Vertical intensity and error in cm-2 s-1 sr-1 at ``depth`` km w.e. of standard rock."""
    first, second = math.exp(-depth / 0.45), math.exp(-depth / 0.87)
    return 8.60e-6 * first + 0.44e-6 * second, math.hypot(0.53e-6 * first, 0.06e-6 * second)


def heisinger(depth):
    """Vertical intensity in cm-2 s-1 sr-1 at ``depth`` km w.e. of standard rock."""
    h = 1000.0 * depth
    if h < 2000.0:
        return 258.5 * math.exp(-5.5e-4 * h) / ((h + 210.0) * ((h + 10.0) ** 1.66 + 75.0))
    return 1.82e-6 * (1211.0 / h) ** 2 * math.exp(-h / 1211.0) + 2.84e-13


def depth_in_rock(depth):
    """Depth in standard rock that stops the muons which ``depth`` of ice stops; both in km w.e."""
    return rock_medium().mean_range(ice_medium().threshold(depth * KM_WE)) / KM_WE


def main():
    print(HEADER + "source,depth_kmwe,depth_rock_kmwe,intensity_cm2_s_sr,error_cm2_s_sr")
    depths = [1.2 + 0.1 * step for step in range(20)]
    for depth in depths:
        print("mei-hime,%.3f,%.3f,%.3e,%.1e" % ((depth, depth_in_rock(depth)) + mei_hime(depth_in_rock(depth))))
    for depth in depths:
        print("heisinger,%.3f,%.3f,%.3e," % (depth, depth_in_rock(depth), heisinger(depth_in_rock(depth))))
    print("dumand,2.090,,9.84e-08,6.5e-08")


if __name__ == "__main__":
    main()

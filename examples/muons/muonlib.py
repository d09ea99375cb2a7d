"""The physics of the example: the muon flux at the surface, the losses in matter, and how numbers are written.

Everything here is plain Python 3.6 and pure: randomness comes in as a ``random.Random``, units are in the names.
Energies are in GeV, grammages ("depths") in g/cm2 unless a name says otherwise: 1 km w.e. = 1e5 g/cm2.

Sources
-------
surface flux    T. K. Gaisser, Cosmic Rays and Particle Physics (1990), eq. 6.4, good above 100 GeV / cos(theta); for
                the curved atmosphere with cos(theta*) as fitted by D. Chirkin, hep-ph/0407078.
energy loss     ionisation, bremsstrahlung, pair production and photonuclear losses: the standard tables of D. E. Groom,
                N. V. Mokhov, S. I. Striganov, At. Data Nucl. Data Tables 78 (2001) 183, as recomputed by the PUMAS
                project (github.com/niess/pumas-materials, dedx/muon/water.txt and standard_rock.txt).
fluctuations    bremsstrahlung: the complete-screening shape (4/3 - 4v/3 + v2)/v; pairs: 1/v below and 1/v3 far above
                v = 2 m_e/m_mu; photonuclear: (1 - v + v2/2)/v. Each is scaled to its mean loss in the tables.
"""

import json
import math
import os
import random

KM_WE = 1.0e5  # g/cm2 in one kilometre of water equivalent
ICE_DENSITY = 0.917  # g/cm3, bulk ice
SHORTEST_TRACK = 5.0  # m of ice that a muon must still have before it, or a layer does not see it

# ----------------------------------------------------------------------------------------------------- the surface

CHIRKIN = (0.102573, -0.068287, 0.958633, 0.0407253, 0.817285)


def cos_theta_star(cos_theta):
    """Cosine of the zenith angle where the muon was born, high in a curved atmosphere."""
    p1, p2, p3, p4, p5 = CHIRKIN
    top = cos_theta**2 + p1**2 + p2 * cos_theta**p3 + p4 * cos_theta**p5
    return math.sqrt(top / (1.0 + p1**2 + p2 + p4))


def surface_flux(energy, cos_theta):
    """Muons per cm2, s, sr and GeV at sea level: Gaisser's formula, pions and kaons."""
    decay = 1.1 * energy * cos_theta_star(cos_theta)
    return 0.14 * energy**-2.7 * (1.0 / (1.0 + decay / 115.0) + 0.054 / (1.0 + decay / 850.0))


# ------------------------------------------------------------------------------------------------------ the losses

# energy [GeV]; ionisation a [MeV cm2/g]; b of bremsstrahlung, pairs, photonuclear [1e-6 cm2/g]
WATER_TABLE = (
    (1e0, 2.098, 0.2547, 0.0696, 0.0000),
    (3e0, 2.286, 0.3503, 0.2143, 0.1833),
    (1e1, 2.482, 0.4861, 0.4871, 0.3362),
    (3e1, 2.635, 0.6267, 0.7800, 0.3793),
    (1e2, 2.781, 0.7852, 1.0940, 0.3845),
    (3e2, 2.907, 0.9197, 1.3300, 0.3890),
    (1e3, 3.045, 1.0430, 1.5100, 0.4053),
    (3e3, 3.175, 1.1263, 1.6070, 0.4360),
    (1e4, 3.324, 1.1860, 1.6630, 0.4854),
    (3e4, 3.468, 1.2167, 1.6863, 0.5423),
    (1e5, 3.634, 1.2340, 1.6980, 0.6171),
)
ROCK_TABLE = (
    (1e0, 1.808, 0.3645, 0.1040, 0.0000),
    (3e0, 1.986, 0.5023, 0.3207, 0.1804),
    (1e1, 2.170, 0.6944, 0.7047, 0.3253),
    (3e1, 2.311, 0.8897, 1.1127, 0.3630),
    (1e2, 2.444, 1.1050, 1.5430, 0.3645),
    (3e2, 2.557, 1.2853, 1.8607, 0.3663),
    (1e3, 2.681, 1.4480, 2.0950, 0.3804),
    (3e3, 2.798, 1.5547, 2.2183, 0.4083),
    (1e4, 2.933, 1.6290, 2.2880, 0.4542),
    (3e4, 3.062, 1.6667, 2.3170, 0.5073),
    (1e5, 3.212, 1.6870, 2.3310, 0.5772),
)
# The plasma energy falls with the square root of the density, so ice ionises a little more than water per gram.
ICE_EXTRA_IONISATION = -0.307075 * 0.555 * 0.5 * math.log(ICE_DENSITY)  # MeV cm2/g

V_CUT = 0.02  # a radiative loss of more than this fraction of the energy is an event of its own
V_PAIR = 0.00968  # 2 m_e / m_mu
GRID_STEP = 0.05  # in ln(energy)
STEP_FRACTION = 0.10  # the longest step loses a tenth of the energy
E_STOP = 0.5  # GeV: below this the muon is at its end (some 2 m of ice)


def _interpolate(table, energy, column):
    """A column of a loss table at ``energy``, linear in ln(energy), constant beyond the ends."""
    if energy <= table[0][0]:
        return table[0][column]
    for low, high in zip(table, table[1:]):
        if energy <= high[0]:
            share = math.log(energy / low[0]) / math.log(high[0] / low[0])
            return low[column] + share * (high[column] - low[column])
    return table[-1][column]


class Medium:
    """Losses in one material, laid out on a fine grid of ln(energy), split at ``v_cut`` into soft and hard."""

    def __init__(self, table, extra_ionisation=0.0, v_cut=V_CUT):
        self.v_cut = v_cut
        self.low = math.log(E_STOP / 2.0)
        self.cells = []
        v = v_cut
        pair_norm = V_PAIR * (1.0 + V_PAIR)
        soft_brems = 4.0 / 3.0 * v - 2.0 / 3.0 * v**2 + v**3 / 3.0
        soft_pair = pair_norm * (1.0 / V_PAIR - 1.0 / (v + V_PAIR))
        soft_nuclear = 1.5 * (v - v**2 / 2.0 + v**3 / 6.0)
        rate_brems = -4.0 / 3.0 * math.log(v) - 4.0 / 3.0 * (1.0 - v) + (1.0 - v**2) / 2.0
        rate_pair = pair_norm * (_pair_integral(1.0) - _pair_integral(v))
        rate_nuclear = 1.5 * (-math.log(v) - (1.0 - v) + (1.0 - v**2) / 4.0)
        for index in range(320):
            energy = math.exp(self.low + (index + 0.5) * GRID_STEP)
            ionisation = (_interpolate(table, energy, 1) + extra_ionisation) * 1e-3
            brems, pair, nuclear = (_interpolate(table, energy, column) * 1e-6 for column in (2, 3, 4))
            soft = brems * soft_brems + pair * soft_pair + nuclear * soft_nuclear
            hard_brems, hard_pair = brems * rate_brems, pair * rate_pair
            rate = hard_brems + hard_pair + nuclear * rate_nuclear
            total = brems + pair + nuclear
            self.cells.append((ionisation, soft, rate, hard_brems, hard_brems + hard_pair, total))

    def cell(self, energy):
        """(a, soft b, rate of hard losses, that of brems, that of brems and pairs, whole b) at ``energy``."""
        index = int((math.log(energy) - self.low) / GRID_STEP)
        return self.cells[min(max(index, 0), len(self.cells) - 1)]

    def mean_range(self, energy):
        """Grammage after which a muon that loses its mean energy steadily has stopped (CSDA), in g/cm2."""
        passed = 0.0
        while energy > E_STOP:
            lower = max(E_STOP, energy * 0.95)
            a, _, _, _, _, b = self.cell(0.5 * (energy + lower))
            passed += math.log((a + b * energy) / (a + b * lower)) / b
            energy = lower
        return passed

    def threshold(self, grammage):
        """Energy in GeV of the muon whose ``mean_range`` is ``grammage``."""
        low, high = 1.0, 1.0e6
        for _ in range(60):
            middle = math.sqrt(low * high)
            if self.mean_range(middle) < grammage:
                low = middle
            else:
                high = middle
        return math.sqrt(low * high)

    def hard_loss(self, cell, rng):
        """The fraction of its energy that a muon loses in one hard interaction."""
        cut = self.v_cut
        pick = rng.random() * cell[2]
        if pick < cell[3]:
            while True:
                v = cut ** rng.random()
                if rng.random() * 4.0 < 4.0 - 4.0 * v + 3.0 * v * v:
                    return v
        if pick < cell[4]:
            while True:
                v = cut / math.sqrt(1.0 - rng.random() * (1.0 - cut * cut))
                if rng.random() < (v * (1.0 + V_PAIR) / (v + V_PAIR)) ** 2:
                    return v
        while True:
            v = cut ** rng.random()
            if rng.random() < 1.0 - v + 0.5 * v * v:
                return v

    def propagate(self, energy, depths, rng):
        """Energies of one muon at the rising ``depths`` (g/cm2 along its way); shorter than ``depths`` if it stopped.

        Returns (energies, number of hard losses).
        """
        energies = []
        losses = 0
        here = 0.0
        for depth in depths:
            while here < depth:
                cell = self.cell(energy)
                a, b = cell[0], cell[1]
                step = max(STEP_FRACTION * energy / (a + b * energy), 500.0)
                free = -math.log(1.0 - rng.random()) / cell[2]
                hit = free < step and free < depth - here
                step = min(step, free, depth - here)
                energy = (energy + a / b) * math.exp(-b * step) - a / b
                here = depth if step == depth - here else here + step
                if energy > E_STOP and hit:
                    energy *= 1.0 - self.hard_loss(cell, rng)
                    losses += 1
                if energy <= E_STOP:
                    return energies, losses
            energies.append(energy)
        return energies, losses


def _pair_integral(v):
    """Antiderivative of 1 / (v (v + V_PAIR)^2)."""
    return math.log(v / (v + V_PAIR)) / V_PAIR**2 + 1.0 / (V_PAIR * (v + V_PAIR))


def ice_medium(v_cut=V_CUT):
    """Glacial ice."""
    return Medium(WATER_TABLE, ICE_EXTRA_IONISATION, v_cut)


def rock_medium(v_cut=V_CUT):
    """Standard rock (Z = 11, A = 22), in which most depth-intensity data are given."""
    return Medium(ROCK_TABLE, 0.0, v_cut)


# -------------------------------------------------------------------------------------------------------- sampling

PARETO = 2.2  # index of the power law from which energies come
LEAST_LOSS = 2.6e-3  # GeV cm2/g: less than any muon loses, so nothing that could arrive is left out


GOLDEN = 0.6180339887498949  # steps of the golden ratio fill the unit interval evenly


def lattice(rng, count):
    """``count`` points that fill the unit square evenly, shifted at random: less noise than as many random points."""
    first, second = rng.random(), rng.random()
    return [((number + first) / count, (number * GOLDEN + second) % 1.0) for number in range(count)]


def power_law(chance, least_grammage):
    """The energy in GeV that a share ``chance`` of a power law lies below, and the density there per GeV.

    The law starts at the least energy that can cross ``least_grammage``.
    """
    least = LEAST_LOSS * least_grammage
    energy = least * (1.0 - chance) ** (-1.0 / (PARETO - 1.0))
    return energy, (PARETO - 1.0) / least * (energy / least) ** -PARETO


def stream(seed, task):
    """The random numbers of one task of one job: the same on every machine and Python."""
    return random.Random("%s/%s" % (seed, task))


# ---------------------------------------------------------------------------------------------- files, to the byte


def digits(number):
    """``number`` with nine significant digits: what the last bit of a platform's exp() was must not be seen."""
    return "%.9g" % number


def rounded(value):
    """``value`` with every float in it at nine significant digits."""
    if isinstance(value, float):
        return float(digits(value))
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def write_json(path, value):
    """Write ``value`` with sorted keys, nine digits and a newline at the end."""
    with open(path, "w", newline="\n") as out:
        out.write(json.dumps(rounded(value), sort_keys=True, indent=1) + "\n")


def read_json(path):
    """Read what ``write_json`` wrote."""
    with open(path) as lines:
        return json.load(lines)


def write_rows(path, header, rows):
    """Write a CSV file: a header and rows of strings."""
    with open(path, "w", newline="\n") as out:
        out.write(",".join(header) + "\n")
        for row in rows:
            out.write(",".join(row) + "\n")


def read_rows(path):
    """The rows of a CSV file without its header and its lines of comment, as lists of strings."""
    with open(path) as lines:
        rows = [line.rstrip("\n").split(",") for line in lines if not line.startswith("#")]
    return rows[1:]


def report(**numbers):
    """Hand statistics to whoever runs the task: lines ``name value`` in the file that $ICP_STATS names."""
    path = os.environ.get("ICP_STATS")
    if path:
        with open(path, "a", newline="\n") as out:
            for name in sorted(numbers):
                out.write("%s %s\n" % (name, digits(numbers[name])))

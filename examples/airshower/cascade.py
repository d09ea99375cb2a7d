"""One air shower after the other: hadrons interact as Sibyll says, or decay; photons become profiles (hides chromo)."""

import contextlib
import math
import os

import numpy
from chromo.kinematics import CompositeTarget, FixedTarget, GeV
from chromo.models import Sibyll21, Sibyll23d

MODELS = {"sibyll21": Sibyll21, "sibyll23d": Sibyll23d}
GRAMS = 24160.0  # g/cm2 of air per mb of cross-section: 14.55 / N_A
RADIATION, CRITICAL = 36.66, 0.086  # air: g/cm2, GeV
LOWEST = 60.0  # GeV: below it the centre of mass has less than the 10 GeV that Sibyll wants
LOSS = 0.002  # GeV per g/cm2: ionisation by muons
STEP = 10.0  # g/cm2 of a profile
# Energy at which a decay is as likely as an interaction (Gaisser), GeV, vertically.
DECAYS = {211: 115.0, 321: 850.0, 130: 205.0}
PROTON, NEUTRON, PION, KAON, KLONG, MUON = 2212, 2112, 211, 321, 130, 13
NUCLEONS, ELECTROMAGNETIC = (PROTON, NEUTRON), (22, 11)


@contextlib.contextmanager
def quiet():
    """The banners of Fortran go where nobody reads them."""
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


class Showers:
    """A generator of showers. Sibyll has one state for a process, and so there is one of these in each."""

    def __init__(self, model, seed, threshold=100.0, muon=10.0):
        """Hadrons below ``threshold`` and muons below ``muon`` (GeV) are not followed."""
        if threshold < LOWEST:
            raise ValueError("threshold is %g GeV: Sibyll begins at %g" % (threshold, LOWEST))
        self.threshold, self.muon, self.interactions = threshold, muon, 0
        self._random = numpy.random.default_rng([seed, 1])
        self._air = CompositeTarget([("N", 0.785), ("O", 0.215)])
        with quiet():
            self._model = MODELS[model](FixedTarget(1e4 * GeV, "p", self._air), seed=int(self._random.integers(1, 2**31)))
        # What lives shorter than a charged pion decays at once.
        self._model.final_state_particles = [MUON, -MUON, PION, -PION, KAON, -KAON, KLONG, PROTON, -PROTON, NEUTRON, -NEUTRON]
        self._energies = numpy.geomspace(LOWEST, 1e10, 30)
        self._lengths = {pid: self._table(name) for pid, name in ((PROTON, "p"), (PION, "pi+"), (KAON, "K+"))}

    def _table(self, name):
        return [GRAMS / self._model.cross_section(FixedTarget(one * GeV, name, self._air)).prod for one in self._energies]

    def _length(self, kind, energy):
        """Mean free path, g/cm2."""
        table = self._lengths[PROTON if kind in NUCLEONS else KAON if kind == KLONG else kind]
        return float(numpy.interp(math.log(energy), numpy.log(self._energies), table))

    def shower(self, energy, nucleons, cos, ground):
        """(depth of the maximum in g/cm2, muons at the ground) of a nucleus of this energy; ``ground`` is its vertical depth."""
        self._cos, self._ground = cos, ground / cos
        self._sparks, self._muons = [], 0
        stack = [(PROTON if self._random.random() < 0.5 or nucleons == 1 else NEUTRON, energy / nucleons, 0.0) for _ in range(nucleons)]
        while stack:
            pid, energy, depth = stack.pop()
            kind = abs(pid)
            if kind in ELECTROMAGNETIC:
                self._sparks.append((energy, depth))
            elif kind == MUON:
                self._muons += energy - LOSS * (self._ground - depth) > self.muon
            elif kind in DECAYS or kind in NUCLEONS:
                self._hadron(pid, kind, energy, depth, stack)
        return self._maximum(), self._muons

    def _hadron(self, pid, kind, energy, depth, stack):
        draw = 1.0 - self._random.random()
        there = depth - self._length(kind, max(energy, LOWEST)) * math.log(draw)
        if kind in DECAYS:
            # The air thins out with height, so that a decay becomes less likely the deeper it is: a power law in depth.
            far = -math.log(1.0 - self._random.random()) * energy * self._cos / DECAYS[kind]
            begin = max(depth, 0.01)
            if far < math.log(min(there, self._ground) / begin):
                self._decay(kind, energy, begin * math.exp(far), stack)
                return
        if there >= self._ground:
            return
        if energy < self.threshold:
            self._sparks.append((energy / 3.0, there))
            return
        self._interact(pid, energy, there, stack)

    def _decay(self, kind, energy, depth, stack):
        draw, part = self._random.random(), self._random.random()
        if kind == PION:  # muon and neutrino: evenly between these two
            stack.append((MUON, energy * (0.573 + 0.427 * part), depth))
        elif kind == KAON and draw < 0.635:
            stack.append((MUON, energy * (0.046 + 0.954 * part), depth))
        elif kind == KAON and draw < 0.842:  # two pions
            stack += [(PION, energy * part, depth), (22, energy * (1.0 - part), depth)]
        elif kind == KLONG and draw < 0.195:  # three neutral pions
            stack.append((22, energy, depth))
        elif kind == KLONG and draw < 0.465:
            stack += [(PION, energy * 0.4, depth), (MUON, energy * 0.3, depth)]
        else:
            stack += [(PION, energy * 0.4, depth), (22, energy * 0.3, depth)]

    def _interact(self, pid, energy, depth, stack):
        self.interactions += 1
        with quiet():
            self._model.kinematics = FixedTarget(energy * GeV, pid, self._air)
            (event,) = self._model(1)
        final = event.final_state()
        for one, carried in zip(final.pid.tolist(), final.elab.tolist()):
            if carried > (self.muon if abs(one) not in ELECTROMAGNETIC else 1.0):
                stack.append((one, carried, depth))

    def _maximum(self):
        """Where the sum of all photons' profiles (Greisen's) has the most electrons."""
        if not self._sparks:
            return math.nan
        energy, depth = numpy.array(sorted(self._sparks)).T
        beta = numpy.log(numpy.maximum(energy / CRITICAL, 3.0))[:, None]
        grid = numpy.arange(STEP, 2000.0, STEP)
        t = numpy.maximum((grid[None, :] - depth[:, None]) / RADIATION, 1e-9)
        age = 3.0 * t / (t + 2.0 * beta)
        profile = (0.31 / numpy.sqrt(beta) * numpy.exp(t * (1.0 - 1.5 * numpy.log(age))) * (t > 1e-6)).sum(axis=0)
        top = int(min(max(profile.argmax(), 1), len(grid) - 2))
        left, middle, right = profile[top - 1 : top + 2]
        return float(grid[top] + 0.5 * STEP * (left - right) / (left - 2.0 * middle + right))

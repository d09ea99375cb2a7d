"""Sites of the lab as fixtures."""

from tests.lab.sites import _nsa, _nsb, broken_nsa, broken_nsb, lab, nsa, nsb

__all__ = ["_nsa", "_nsb", "broken_nsa", "broken_nsb", "lab", "nsa", "nsb"]

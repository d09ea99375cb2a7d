"""Sites of the lab as fixtures."""

from tests.lab.sites import _nsa, _nsb, broken_nsa, lab, nsa, nsb

__all__ = ["_nsa", "_nsb", "broken_nsa", "lab", "nsa", "nsb"]

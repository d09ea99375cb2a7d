"""Sites of the lab as fixtures."""

from tests.lab.sites import _nsa, broken_nsa, lab, nsa, nsb

__all__ = ["_nsa", "broken_nsa", "lab", "nsa", "nsb"]

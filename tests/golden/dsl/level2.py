"""What modules.toml gets wrong."""

from icp.pilot.module import Module, Parameter


class Level2(Module):
    """Keeps events that come from below."""

    infile = Parameter(str, help="events to read")
    cuts = Parameter(dict, {"zenith": 85.0}, "cuts")
    energies = Parameter(list, [], "energies")
    n = Parameter(int, 3, "how many")
    mode = Parameter(str, "fast", "mode", choices=["fast", "slow"])

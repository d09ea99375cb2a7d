"""Checksums of files written, or compared with those that were written (hides the lines of sha256sum and md5sum)."""

from icp.pilot.digest import digest_of
from icp.pilot.module import Module, Parameter, Stats
from icp.pilot.modules import chosen

__all__ = ["Checksum"]


class Checksum(Module):
    """Writes the checksums of files, as sha256sum or md5sum would; or compares files with such a list."""

    files = Parameter(list, [], "patterns of files whose checksums are written")
    out = Parameter(str, "checksums.txt", "the list that is written")
    compare = Parameter(str, "", "a list that is read: a file in it that is not there or differs is a failure")
    kind = Parameter(str, "sha256", "kind of checksum", choices=["sha256", "md5"])

    def execute(self, stats: Stats) -> None:
        if self.compare:
            self._compare(stats)
        if self.files:
            with open(self.out, "w", encoding="utf-8") as stream:
                for name in chosen(self.files):
                    stream.write(f"{digest_of(name, self.kind)}  {name}\n")
                    stats.increment("checksum.files")
        elif not self.compare:
            raise ValueError("neither `files` nor `compare` is given")

    def _compare(self, stats: Stats) -> None:
        wrong = []
        with open(self.compare, encoding="utf-8") as stream:
            for line in stream:
                expected, _, name = line.rstrip("\n").partition(" ")
                if not name:
                    continue
                name = name[1:] if name[0] in " *" else name
                found = digest_of(name, self.kind)
                stats.increment("checksum.files")
                if found != expected:
                    wrong.append(f"{name} has {self.kind} {found}, expected {expected}")
        if wrong:
            raise ValueError("; ".join(wrong))

"""Why an attempt ends with an error that is not its command's own (hides nothing: the kinds are those of the ledger)."""

__all__ = ["Problem", "Unrun"]


class Problem(Exception):
    """An attempt ends with an error of this ``kind`` (payload, stage, node, software); the text is one sentence."""

    def __init__(self, kind: str, text: str, gone: "list[list[str]] | None" = None) -> None:
        Exception.__init__(self, text)
        self.kind = kind
        self.gone = gone
        """What the site lacks, though it should have it: ["store", attempt, name] or ["cache", sha256]."""


class Unrun(Exception):
    """An attempt does not begin here, for a reason that is known already: another agent may run it."""

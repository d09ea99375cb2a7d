"""The errors that a person may meet: each is one sentence, a hint, and an exit code (hides how the CLI ends)."""

from __future__ import annotations

__all__ = ["BadInput", "Failed", "IcpError", "NotFound", "Refused", "Unreachable"]


class IcpError(Exception):
    """Base of every error that is shown to a person without a traceback.

    ``message`` is one sentence (what, where, what was expected); ``hint`` is what to do, usually a command.
    """

    code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(IcpError):
    """What was asked was tried, and did not work (exit code 1)."""

    code = 1


class BadInput(IcpError):
    """A wrong option, steering file, or configuration; nothing was changed (exit code 2).

    ``mistakes`` holds one already formatted line for each mistake where there are several.
    """

    code = 2

    def __init__(self, message: str, hint: str | None = None, mistakes: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.mistakes = mistakes


class NotFound(IcpError):
    """The named dataset, job, task, site or file does not exist (exit code 3)."""

    code = 3


class Refused(IcpError):
    """It could be done but must not be: a lock is held, or this ledger is a copy (exit code 4)."""

    code = 4


class Locked(Refused):
    """Another process holds the ledger for longer than one waits (exit code 4)."""


class Unreachable(IcpError):
    """The outcome is unknown: a site did not answer (exit code 5)."""

    code = 5

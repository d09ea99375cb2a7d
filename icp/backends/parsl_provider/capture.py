"""A provider of Parsl's whose command is recorded, or answered, and never run (hides Parsl's way to run commands)."""

from __future__ import annotations

from typing import Any

from parsl.providers.cluster_provider import ClusterProvider

from icp.errors import BadInput

__all__ = ["captured", "record"]


class _Recorded(Exception):
    """Ends a provider's call once its command is known."""


class _Remote(ClusterProvider):
    """Stands between a provider and ClusterProvider (after the provider's class in the list: LSF calls ``super().execute_wait``)."""

    answer: tuple[int, str, str] | None
    command: str | None

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:  # noqa: ARG002  Parsl's signature
        if cmd.startswith("sacct -X"):
            # a question of SlurmProvider's at birth, about how it would ask for states: it will not be asked
            return 1, "", "not asked"
        if self.answer is not None:
            return self.answer
        self.command = cmd
        raise _Recorded


def captured(base: type[ClusterProvider], stage: str, arguments: dict[str, Any], answer: tuple[int, str, str] | None = None) -> Any:
    """A provider that writes below ``stage``, records its first command, or gets ``answer`` for it. BadInput: it does not take the arguments."""
    kind = type(f"Captured{base.__name__}", (base, _Remote), {"answer": answer, "command": None})
    try:
        provider: Any = kind(**arguments)
    except Exception as error:  # noqa: BLE001  typeguard's errors differ from release to release
        raise BadInput(f"{base.__name__} does not take these options: {str(error).splitlines()[0]}") from None
    provider.script_dir = stage
    return provider


def record(provider: Any, call: Any) -> str:
    """The command at which a call of the provider's ended."""
    try:
        call()
    except Exception:
        # a provider may wrap what ends it; what counts is whether it came to its command
        if provider.command is None:
            raise
    if provider.command is None:
        raise AssertionError("a provider ended without running a command")
    return str(provider.command)

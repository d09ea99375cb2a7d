"""One Python module run to its end, in the process that the task's Python was started for (hides imports, tracebacks
and how an interpreter ends).

This is the other side of :mod:`icp.pilot.python_start`; standard library only, Python 3.6 and later.
"""

import importlib
import importlib.util
import json
import os
import sys

from . import module as base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

__all__ = ["main", "prepare", "read", "run"]


def main(path: str) -> int:
    """Runs what the file at ``path`` asks for; the exit code."""
    return run(read(path))


def read(path: str) -> "dict[str, Any]":
    """What is asked for: ``file`` (or ``module``, the name of one of ours), ``root``, ``class``, ``params``."""
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)  # type: ignore[no-any-return]


def run(wanted: "dict[str, Any]", prepared: "tuple[ModuleType, CodeType] | None" = None) -> int:
    """Imports the module's file (``prepared``: it was, but for running it), makes the class with its parameters, and
    executes it in the current directory. Its exit code; what is wrong is said on stderr.
    """
    sys.argv[:] = [wanted.get("file") or wanted["module"]]
    stats = base.Stats()
    try:
        cls = _class(wanted, prepared)
        try:
            return base.exit_code(cls(**wanted["params"]).execute(stats), cls.__name__)
        finally:
            path = os.environ.get("ICP_STATS")
            if path:
                stats.save(path)
    except base.WrongParameter as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 255 or (1 if error.code else 0)
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException as error:
        _tell(error)
        return 1


def _class(wanted: "dict[str, Any]", prepared: "tuple[ModuleType, CodeType] | None") -> "Any":
    if wanted.get("module"):
        found = importlib.import_module(f"icp.pilot.modules.{wanted['module']}")
    else:
        if prepared is None:
            folders = [os.path.realpath(wanted["root"])] if wanted.get("root") else []
            prepared = prepare(os.path.realpath(wanted["file"]), folders)
        found, code = prepared
        sys.modules[found.__name__] = found
        exec(code, found.__dict__)  # noqa: S102 - it is what an import does
    cls = getattr(found, wanted["class"], None)
    if not isinstance(cls, type) or not issubclass(cls, base.Module):
        what = "there is no class" if cls is None else "this is no subclass of icp.pilot.module.Module:"
        raise base.WrongParameter(f"{wanted.get('file') or wanted.get('module')}: {what} {wanted['class']}")
    return cls


def prepare(path: str, folders: "list[str]") -> "tuple[ModuleType, CodeType]":
    """A module's file as Python would import it, but for running it: it, and its code. Its folder is in sys.path then,
    as that of a script is, before ``folders`` (the root of a repository). OSError, SyntaxError, ValueError.
    """
    with open(path, "rb") as stream:
        code = compile(stream.read(), path, "exec", dont_inherit=True)
    sys.path[0:0] = [os.path.dirname(path), *folders]
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
    assert spec is not None
    return importlib.util.module_from_spec(spec), code


def _tell(error: BaseException) -> None:
    """The traceback on stderr, from the user's own file on."""
    import traceback

    trace = error.__traceback__
    own = [__file__, importlib.__file__]
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in own or "<frozen" in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)

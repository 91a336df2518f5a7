"""Starting Python in a process of its own, which imports nothing from the working directory.

When Python is given a program by `-c`, it looks for modules in the working directory first: a file
`keras.py` there would be run instead of Keras. The user's own `PYTHONPATH` still counts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# PYTHONSAFEPATH exists since Python 3.11; for an older interpreter this does the same.
_SAFE = "import sys\nif not getattr(sys.flags, 'safe_path', False): del sys.path[0]\n"

# The interpreter can be that of another environment: only this package is made importable in it,
# not what is installed beside it.
_PACKAGE = """
import importlib.util
spec = importlib.util.spec_from_file_location(
    "keras_lrp_prune", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]]
)
package = importlib.util.module_from_spec(spec)
sys.modules["keras_lrp_prune"] = package
spec.loader.exec_module(package)
del sys.argv[1]
importlib.import_module({module!r}).main()
"""


def command(program: str, arguments: Sequence[str] = (), python: str | None = None) -> list[str]:
    """The command that runs a program, given as source, with `sys` imported.

    Args:
        program: Its source.
        arguments: What it finds from `sys.argv[1]` on.
        python: The interpreter, of any version of Python 3; default: this one.

    Returns:
        What `subprocess` takes.

    Example:
    >>> subprocess.run(command("print(sys.argv[1])", ["hello"]), env=environment())
    """
    return [python or sys.executable, "-c", _SAFE + program, *arguments]


def module_command(
    module: str, arguments: Sequence[str] = (), python: str | None = None
) -> list[str]:
    """The command that calls `main()` of a module of this package, wherever the package lies.

    Args:
        module: Its full name.
        arguments: What it finds from `sys.argv[1]` on.
        python: The interpreter, as in `command`.

    Returns:
        What `subprocess` takes.
    """
    package = str(Path(__file__).parent)
    return command(_PACKAGE.format(module=module), [package, *arguments], python)


def environment(**variables: str) -> Mapping[str, str]:
    """This process's environment with further variables; what the child starts is as safe as it."""
    return {**os.environ, "PYTHONSAFEPATH": "1", **variables}

"""
Read by tox. It finds the Pythons that are there (the system's, and all that
pyenv has), and names the one that runs every test, with coverage: 3.12, where
counting lines costs little and every wheel is to be had; else the system's, or
else tox's own. C{tox} runs as many environments side by side as there are
CPUs: where one installs, waits or checks types, others go on. C{tox run} does not.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from tox.plugin import impl

SUPPORTED = (11, 12, 13)

_pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_pythons = sorted(str(python) for python in _pyenv.glob("versions/3.*/bin/python3"))
_main, _minor = sys.executable, sys.version_info[1]

_system = Path("/usr/bin/python3").resolve()
_found = re.fullmatch(r"python3\.(\d+)", _system.name)
if _found and int(_found[1]) in SUPPORTED:
    _main, _minor = str(_system), int(_found[1])
    _pythons.insert(0, _main)
for _python in _pythons:
    if "/3.12." in _python:
        _main, _minor = _python, 12

_others = [f"py3{minor}" for minor in SUPPORTED if minor != _minor]
if _pythons:
    os.environ.setdefault("TOX_DISCOVER", os.pathsep.join(_pythons))
os.environ.setdefault("REDCOUCH_TESTS_PYTHON", _main)
os.environ.setdefault("REDCOUCH_TESTS_OTHERS", ", ".join(_others))
os.environ.setdefault("REDCOUCH_TESTS_COVERAGE_CORE", "sysmon" if _minor >= 12 else "ctrace")


@impl
def tox_add_core_config(core_conf: Any, state: Any) -> None:
    """What C{tox} means here: C{tox -p auto -o}."""
    options = state.conf.options
    if getattr(options, "command", None) == "legacy" and not options.parallel:
        options.parallel, options.parallel_live = os.cpu_count(), True

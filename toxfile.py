"""Read by tox, to let it find every Python that pyenv has and not only the one that is chosen."""

from __future__ import annotations

import os
from pathlib import Path

_root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_pythons = sorted(str(python) for python in _root.glob("versions/3.*/bin/python3"))
if _pythons:
    os.environ.setdefault("TOX_DISCOVER", os.pathsep.join(_pythons))

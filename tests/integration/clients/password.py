"""
What a user of pylibmc sees who has to authenticate (SASL PLAIN). Arguments:
port, user, password. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def main() -> None:
    port, user, password = sys.argv[1:]
    pylibmc: Any = import_module("pylibmc")
    client = pylibmc.Client([f"127.0.0.1:{port}"], binary=True, username=user, password=password)
    try:
        seen = {"set": client.set("k", "v"), "get": client.get("k")}
    except pylibmc.Error as error:
        seen = {"error": str(error)}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()

"""
Debian's chromium without a window, for tests that look at a page as a person
would. It gets what it shows from the service under test only.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selenium import webdriver  # whose parts are imported where they are first used

from tests.support.requirements import installed

DESKTOP = (1240, 900)
PHONE = (390, 844)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile, for a test that needs chromium and chromedriver."""
    options = webdriver.ChromeOptions()
    options.binary_location = installed("chromium")
    driver = installed("chromedriver")
    with TemporaryDirectory(prefix="redcouch-tests-") as profile:
        flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        flags += [f"--user-data-dir={profile}", "--no-proxy-server", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # which root has not
        for flag in flags:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield window
        finally:
            window.quit()


def resize(window: webdriver.Chrome, size: tuple[int, int], dark: bool = False) -> None:
    """Look at the page on a screen of this size, by day or by night."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def picture(window: webdriver.Chrome, path: Path, height: int | None = None) -> None:
    """Keep what is seen, the whole page or its upper part, as a PNG."""
    width, whole = window.execute_script(
        "const root = document.documentElement; return [root.clientWidth, root.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": 1}
    taken: dict[str, Any] = window.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
    )
    path.write_bytes(b64decode(taken["data"]))

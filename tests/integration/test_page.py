"""
The status page in a real browser, under traffic.

With C{REDCOUCH_PICTURES} in the environment, a folder, pictures of the page
are left there: status.png is that of the README, taken after
C{REDCOUCH_PICTURES_AFTER} seconds of traffic (0).
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.http.pages import http_port
from tests.integration.browser import DESKTOP, PHONE, browser, picture, resize
from tests.support import servers
from tests.support.polling import eventually
from tests.support.requirements import fixture_needs
from tests.support.servers import RedCouch, RedisServer
from tests.support.wire import Wire, ask

pytestmark = pytest.mark.once

HOSTILE = b"<img/src=x/onerror=document.title='hacked'>"
SHOWN = "return document.querySelector(arguments[0]).textContent"
LOOKS = [(DESKTOP, False), (DESKTOP, True), (PHONE, False), (PHONE, True)]


@contextmanager
def traffic(server: RedCouch) -> Iterator[None]:
    """Some clients that read and write, mostly what is there."""
    done = threading.Event()
    clients = [threading.Thread(target=_talk, args=(server, done, seed)) for seed in range(6)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        done.set()
        for client in clients:
            client.join()


def _talk(server: RedCouch, done: threading.Event, seed: int) -> None:
    choose = random.Random(seed)
    with Wire(server.address) as wire:
        while not done.is_set():
            key = b"%s:%d" % (choose.choice([b"session", b"user", b"page"]), choose.randrange(400))
            if choose.random() < 0.1:
                wire.say([b"set %s 0 600 5\r\nhello\r\n" % key], b"STORED\r\n")
            else:
                wire.say([b"get %s\r\n" % key], b"END\r\n")
            time.sleep(choose.random() / 100)


@pytest.fixture(scope="module")
@fixture_needs("chromium", "chromedriver")
def window() -> Iterator[webdriver.Chrome]:
    """The browser."""
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def shown(window: webdriver.Chrome) -> Iterator[RedCouch]:
    """A service under traffic on a Redis of its own, and its page in the browser."""
    options = ("--http", "0", "--workers", "2", "--version-string", HOSTILE.decode())
    with (
        servers.redis_server() as redis,
        servers.redcouch(redis.url, *options) as server,
        traffic(server),
    ):
        ask(server.address, b"get %s:1\r\n" % HOSTILE, b"END\r\n")
        resize(window, DESKTOP)
        window.get(f"http://127.0.0.1:{http_port(server)}/")
        eventually(lambda: text(window, "#state") == "ready")
        yield server


def run(window: webdriver.Chrome, script: str, *arguments: str) -> Any:
    """What a script in the page gives, in one go: the page draws itself anew meanwhile."""
    return window.execute_script(script, *arguments)


def text(window: webdriver.Chrome, selector: str) -> str:
    """What can be read at a place; nothing where there is no such place."""
    found: str = run(
        window, "return document.querySelector(arguments[0])?.innerText ?? ''", selector
    )
    return found


def texts(window: webdriver.Chrome, selector: str) -> list[str]:
    """The same, for each such place."""
    every = "return [...document.querySelectorAll(arguments[0])].map((place) => place.innerText)"
    found: list[str] = run(window, every, selector)
    return found


def number(window: webdriver.Chrome, selector: str) -> float:
    """The number that stands first there; 0 where there is none."""
    found = re.match(r"[0-9.]+", text(window, selector).replace(",", ""))
    return float(found[0]) if found else 0.0


def test_the_figures_move(window: webdriver.Chrome, shown: RedCouch) -> None:
    """Traffic is seen as it happens: a rate, hits, times, and lines that go on."""
    eventually(lambda: number(window, "#chart-operations .now") > 0)
    eventually(lambda: number(window, "#chart-hits .now") > 0)
    eventually(lambda: number(window, "#chart-latency .now") > 0)

    def line() -> str:
        path = "document.querySelector('#chart-operations path.line.one')"
        return str(run(window, f"return {path}?.getAttribute('d') ?? ''"))

    def count() -> str:
        return text(window, "#commands tbody td.number")

    eventually(line)
    first_line, first_count = line(), count()
    eventually(lambda: line() != first_line)
    eventually(lambda: count() != first_count)


DRAW = """
const [named, points, done] = arguments;
const figure = document.getElementById("chart-" + named).cloneNode(true);
figure.id = "tried";
document.querySelector(".charts").append(figure);
import("/charts.js").then(({ Chart }) => {
  const series = [{ name: "all", look: "one", value: (point) => point.operations }];
  new Chart("tried", { series, unit: "", write: String }).show(points);
  const lines = [...figure.querySelectorAll("path.line")].map((path) => path.getAttribute("d"));
  const words = [...figure.querySelectorAll("svg text")].map((text) => text.textContent);
  figure.remove();
  done([lines, words]);
});
"""
"""Draws these points beside the page's own; gives the lines, and what is written."""


def drawn(
    window: webdriver.Chrome, *points: tuple[float, float | None]
) -> tuple[list[str], list[str]]:
    """What a chart makes of these times and values."""
    given = [{"time": 1_700_000_000 + time, "operations": value} for time, value in points]
    lines, words = window.execute_async_script(DRAW, "operations", given)
    return lines, words


def test_gaps(window: webdriver.Chrome, shown: RedCouch) -> None:
    """No line is drawn where nothing was measured, or nobody was there to measure it."""
    lines, _ = drawn(window, (0, 5.0), (3, 7.0), (6, None), (9, 5.0), (12, 6.0))
    assert [line.count("L") for line in lines] == [1, 1]
    lines, _ = drawn(window, *((time, 5.0) for time in (*range(0, 1800, 3), *range(2100, 3600, 3))))
    assert len(lines) == 2


def test_little_to_draw(window: webdriver.Chrome, shown: RedCouch) -> None:
    """One point is a dot; none is said to be none; what is always 0 has an axis all the same."""
    (dot,), words = drawn(window, (0, 5.0))
    assert re.fullmatch(r"M[0-9.]+,[0-9.]+h.1", dot)
    assert words[:3] == ["0", "2.5", "5"]
    assert drawn(window) == ([], ["nothing yet"])
    lines, words = drawn(window, (0, None), (3, None))
    assert (lines, words[-1]) == ([], "nothing yet")
    _, words = drawn(window, (0, 0.0), (3, 0.0))
    assert words[:3] == ["0", "0.5", "1"]


def test_an_outage(window: webdriver.Chrome) -> None:
    """What is wrong stands above everything else."""
    with servers.redcouch("redis://127.0.0.1:1?timeout=1", "--http", "0", ready=False) as server:
        window.switch_to.new_window("tab")
        try:
            window.get(f"http://127.0.0.1:{http_port(server)}/")
            eventually(lambda: text(window, "#state") == "not ready")
            refused = "127.0.0.1:1?timeout=1: Connection was refused"
            eventually(lambda: refused in text(window, "#trouble"))
            assert "not reachable" in text(window, "#storage")
            assert "cannot be reached" in text(window, "#blockers")
        finally:
            window.close()
            window.switch_to.window(window.window_handles[0])


def test_what_it_shows(window: webdriver.Chrome, shown: RedCouch) -> None:
    """The phase and its blockers, Redis, the workers, the settings."""
    eventually(lambda: text(window, "#phases .here").split() == ["1", "Bridge"])
    assert "No client but the bridge" in text(window, "#blockers")
    assert re.search(r"\b\d+\.\d+\.\d+\b", text(window, "#storage"))
    assert "master" in text(window, "#storage")
    assert len(texts(window, "#workers tbody tr")) == 2
    window.find_element(By.CSS_SELECTOR, "summary").click()
    assert "--max-connections" in text(window, "#settings")


def test_hostile_text_is_text(window: webdriver.Chrome, shown: RedCouch) -> None:
    """Markup in what somebody else chose is shown as it was written, and does nothing."""
    eventually(lambda: text(window, "#clients-choice"))
    window.find_element(By.CSS_SELECTOR, "[data-kind=prefix]").click()
    eventually(lambda: HOSTILE.decode() in run(window, SHOWN, "#clients"))
    assert HOSTILE.decode() in run(window, SHOWN, "#settings")
    assert run(window, "return document.querySelectorAll('td img, td script').length") == 0
    assert "hacked" not in window.title


def test_sorting(window: webdriver.Chrome, shown: RedCouch) -> None:
    """A click on a head sorts by that column, another the other way round."""

    def heads() -> list[str]:
        sorts = "return [...document.querySelectorAll('#commands th')].map((head) => head.ariaSort)"
        found: list[str] = run(window, sorts)
        return found

    def outcomes() -> list[str]:
        return texts(window, "#commands td:nth-child(3)")

    button = window.find_element(By.CSS_SELECTOR, "#commands th:nth-child(3) button")
    button.click()
    assert heads() == [None, None, "ascending", None]
    listed = outcomes()
    assert listed == sorted(listed)
    button.click()
    assert heads() == [None, None, "descending", None]
    listed = outcomes()
    assert listed == sorted(listed, reverse=True)


def test_silence(window: webdriver.Chrome, any_redis: RedisServer) -> None:
    """A page whose service has gone says so, and does not go on showing old figures as new."""
    with servers.redcouch(any_redis.url, "--http", "0") as server:
        window.switch_to.new_window("tab")
        window.get(f"http://127.0.0.1:{http_port(server)}/")
        eventually(lambda: text(window, "#state") == "ready")
    try:
        eventually(lambda: text(window, "#state") == "no answer")
        said = text(window, "#silent")
        assert "has not answered since" in said
        assert text(window, "main.stale")
    finally:
        window.close()
        window.switch_to.window(window.window_handles[0])


@pytest.mark.parametrize(("size", "dark"), LOOKS)
def test_it_fits(
    window: webdriver.Chrome, shown: RedCouch, size: tuple[int, int], dark: bool
) -> None:
    """On a desk and on a phone, by day and by night, nothing is wider than the screen."""
    resize(window, size, dark)
    wide = "return document.documentElement.scrollWidth"
    eventually(lambda: run(window, wide) == size[0])
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert (run(window, ground) == "rgb(21, 20, 19)") is dark


@pytest.mark.parametrize("width", [1440, 1240, 390])
def test_nothing_is_cut(window: webdriver.Chrome, shown: RedCouch, width: int) -> None:
    """No table is cut at its end, nor, but where a name is too long, at its side."""
    eventually(lambda: text(window, "#clients-choice"))
    window.find_element(By.CSS_SELECTOR, "[data-kind=client]").click()
    resize(window, (width, 844))
    for table in ("clients", "workers", "commands"):
        place = f"document.getElementById('{table}').closest('.scroll')"
        eventually(lambda place=place: run(window, f"return {place}.scrollHeight > 40"))  # type: ignore[misc]
        high, wide = (
            run(window, f"return {place}.scroll{way} - {place}.client{way}")
            for way in ("Height", "Width")
        )
        assert (high, wide) == (0, 0), table


def test_long_tables(window: webdriver.Chrome, shown: RedCouch) -> None:
    """Of many rows the first are shown, until somebody asks for all."""
    resize(window, DESKTOP)
    for number in range(30):
        ask(shown.address, b"get many%d:1\r\n" % number, b"END\r\n")
    window.find_element(By.CSS_SELECTOR, "[data-kind=prefix]").click()
    eventually(lambda: len(texts(window, "#clients tbody tr")) == 12)
    eventually(lambda: text(window, "#clients + .more").startswith("Show all 3"))
    window.find_element(By.CSS_SELECTOR, "#clients + .more").click()
    eventually(lambda: len(texts(window, "#clients tbody tr")) > 30)
    window.find_element(By.CSS_SELECTOR, "#clients + .more").click()
    assert len(texts(window, "#clients tbody tr")) == 12
    window.find_element(By.CSS_SELECTOR, "[data-kind=application]").click()


def test_pictures(window: webdriver.Chrome, shown: RedCouch, tmp_path: Path) -> None:
    """The page can be pictured, and is small enough to be part of a README."""
    folder = Path(os.environ.get("REDCOUCH_PICTURES", tmp_path))
    time.sleep(float(os.environ.get("REDCOUCH_PICTURES_AFTER", "0")))
    for size, dark in LOOKS:
        resize(window, size, dark)
        name = ("phone" if size == PHONE else "status") + ("-dark" if dark else "")
        picture(window, folder / f"{name}.png", 872 if name == "status" else None)
    assert 10_000 < (folder / "status.png").stat().st_size < 200_000


def test_nothing_was_refused(window: webdriver.Chrome, shown: RedCouch) -> None:
    """Nothing was asked of anybody else, and the policy had nothing to object to."""
    origin = f"http://127.0.0.1:{http_port(shown)}/"
    for entry in window.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            assert url.startswith(("http://127.0.0.1:", "data:", "chrome:", "about:")), url
    said = [entry["message"] for entry in window.get_log("browser")]
    assert not [line for line in said if "Content Security Policy" in line or "Error" in line], said
    assert window.current_url == origin
    assert "hacked" not in window.title

"""Pages in a real browser: nothing sticks out, nothing is asked for, all can be reached and read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from kubesim.report import CheckedExpectation, write_report
from kubesim.scenario import save_result
from tests.report.sweeps import HOSTILE, LONG_WORD, make_sweep
from tests.scenarios import simulate

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver (Debian: chromium chromium-driver)"
)

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip

CONTRAST = """
const parts = text => text.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = element => {
  for (let one = element; one; one = one.parentElement) {
    const colour = parts(getComputedStyle(one).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
return [...document.body.querySelectorAll('*')]
  .filter(one => !one.closest('svg') && [...one.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
  .map(one => {
    const [light, dark] = [luminance(parts(getComputedStyle(one).color)), luminance(behind(one))].sort((a, b) => b - a);
    return [(light + 0.05) / (dark + 0.05), one.outerHTML.slice(0, 120)];
  })
  .sort((a, b) => a[0] - b[0])[0];
"""
"""The least contrast of any text with what is behind it, as WCAG 2.2 defines it, and where it is."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages about a sweep and a run, with text that means ill."""
    folder = tmp_path_factory.mktemp("pages")
    save_result(simulate(name=f"{HOSTILE} {LONG_WORD}"), folder / "run")
    expectations = [
        CheckedExpectation(f"{LONG_WORD} < 1 ms", "12 µs", "11 to 13 µs", "holds"),
        CheckedExpectation(HOSTILE, "3", "2 to 4", "fails", LONG_WORD),
        CheckedExpectation("p99 < 1 ms", "–", "–", "cannot tell", "replications: 5"),
    ]
    sweep = write_report(make_sweep(folder), expectations=expectations)
    return {"sweep": sweep, "run": write_report(folder / "run")}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser that nobody has used."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


def opened(
    browser: webdriver.Chrome, page: Path, width: int = 1280, scheme: str = "light", medium: str = "screen"
) -> webdriver.Chrome:
    """The browser with a page in a window so wide."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": [feature]})
    browser.get(page.as_uri())
    return browser


def script(browser: webdriver.Chrome, text: str) -> Any:
    """What a script gives; the page's policy holds for the page, not for us."""
    return browser.execute_script(text)


@pytest.mark.parametrize("width", [320, 768, 1280])
@pytest.mark.parametrize("name", ["sweep", "run"])
def test_the_page_fits_the_window(browser: webdriver.Chrome, pages: dict[str, Path], name: str, width: int) -> None:
    opened(browser, pages[name], width)
    wide = "return [document.scrollingElement.scrollWidth, innerWidth]"
    needed, there = script(browser, wide)
    assert there == width
    assert needed <= there
    script(browser, "document.querySelectorAll('details').forEach(one => one.open = true)")
    needed, there = script(browser, wide)
    assert needed <= there, "with everything unfolded"
    sizes = script(
        browser,
        "return [...document.querySelectorAll('figure svg')].map(one => one.getBoundingClientRect())"
        ".map(one => [one.width, one.height])",
    )
    assert len(sizes) == {"sweep": 4, "run": 2}[name]
    assert all(width > 100 and height > 50 for width, height in sizes), sizes
    boxes = script(
        browser,
        "return [...document.querySelectorAll('.box')].filter(one => one.scrollWidth > one.clientWidth)"
        ".map(one => [one.tabIndex, one.getAttribute('aria-label'), getComputedStyle(one).overflowX])",
    )
    assert all(place == 0 and label and scrolls == "auto" for place, label, scrolls in boxes), "reached by keyboard"


@pytest.mark.parametrize("name", ["sweep", "run"])
def test_nothing_is_asked_for_and_nothing_goes_wrong(
    browser: webdriver.Chrome, pages: dict[str, Path], name: str
) -> None:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    opened(browser, pages[name])
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {str(one["params"]["request"]["url"]) for one in messages if one["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} <= {pages[name].as_uri()}
    assert script(browser, "return performance.getEntriesByType('resource').map(one => one.name)") == []
    assert script(browser, "return document.scripts.length") == 0
    assert script(browser, "return document.images.length") == 0


def test_the_policy_would_stop_a_script(browser: webdriver.Chrome, pages: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = pages["run"].read_text("utf-8")
    spoilt = text.replace(
        "</body>", "<script>document.title = 'run'</script><img src='https://example.com/x.png'></body>"
    )
    assert spoilt != text
    page.write_text(spoilt, "utf-8")
    opened(browser, page)
    assert browser.title != "run"
    log = browser.get_log("browser")
    assert len(log) == 2
    assert all("Content Security Policy" in entry["message"] for entry in log)


def test_links_lead_where_they_say(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["sweep"])
    names = script(browser, "return [...document.querySelectorAll('nav a')].map(one => one.textContent)")
    assert len(names) >= 8
    for place, name in enumerate(names):
        script(browser, "scrollTo(0, 0)")
        link = browser.find_elements("css selector", "nav a")[place]
        link.click()
        heading = script(
            browser,
            "const one = document.querySelector(':target'); return [one.textContent, "
            "one.getBoundingClientRect().top, innerHeight]",
        )
        assert heading[0] == name
        assert 0 <= heading[1] < heading[2]


def test_what_is_folded_opens_by_keyboard(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["sweep"])
    closed = browser.find_elements("css selector", "main details:not([open]) > summary")
    visible = [one for one in closed if one.is_displayed()]
    assert len(visible) >= 6
    for summary in visible:
        inner = summary.find_element("xpath", "following-sibling::*")
        assert not inner.is_displayed()
        summary.send_keys("\n")
        assert inner.is_displayed()
        assert inner.size["height"] > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["sweep", "run"])
def test_all_text_stands_out(browser: webdriver.Chrome, pages: dict[str, Path], name: str, scheme: str) -> None:
    opened(browser, pages[name], scheme=scheme)
    script(browser, "document.querySelectorAll('details').forEach(one => one.open = true)")
    least, where = script(browser, CONTRAST)
    assert least >= 4.5, where
    background = script(browser, "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(background) < 60) == (scheme == "dark")
    is_inverted = "invert" in script(browser, "return getComputedStyle(document.querySelector('figure svg')).filter")
    assert is_inverted == (scheme == "dark"), "figures are drawn on white"


def test_on_paper_it_is_black_on_white(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    opened(browser, pages["sweep"], width=768, scheme="dark", medium="print")
    style = script(browser, "const one = getComputedStyle(document.body); return [one.backgroundColor, one.color]")
    assert style == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert script(browser, "return getComputedStyle(document.querySelector('figure svg')).filter") == "none"
    assert not browser.find_element("css selector", "nav").is_displayed()
    needed = script(
        browser,
        "return Math.max(...[...document.querySelectorAll('figure svg')].map(one => one.getBoundingClientRect().right))",
    )
    assert needed <= 768
    assert not any(one.is_displayed() for one in browser.find_elements("css selector", ".numbers"))
    assert any(one.is_displayed() for one in browser.find_elements("css selector", ".fold table"))

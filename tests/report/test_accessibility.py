"""The page for people who see little or use no pointer: axe-core finds nothing serious, and Tab reaches everything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from anyio.to_thread import run_sync

from sweep.record import FolderLock
from sweep.report.report_writer import make_report
from sweep.report.view_server import open_view
from sweep.types import Scalar
from tests.report.painted import Plan, paint_folder
from tests.support.chromium import Browser, Page

AXE = Path(__file__).parents[2] / "sweep/report/web/node_modules/axe-core/axe.min.js"
SERIOUS = """
    axe.run(document, { resultTypes: ['violations'] }).then(found => found.violations
      .filter(one => ['serious', 'critical'].includes(one.impact))
      .map(one => `${one.id}: ${one.nodes.slice(0, 3).map(node => node.target.join(' ')).join(' | ')}`))
"""

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studied run with failures, and one without a source, rated by blind choices, in one results folder."""
    folder = tmp_path_factory.mktemp("accessible") / "results"
    await paint_folder(folder / "cups", Plan(failed={5: "out of memory"}, size=(96, 72)))
    axes: dict[str, Sequence[Scalar]] = {"variation": ["studio lighting", "painterly", "woodcut"], "seed": [1, 2]}
    await paint_folder(folder / "words", Plan(axes=axes, source=False, size=(96, 72)))
    for name in ("cups", "words"):
        await run_sync(partial(make_report, folder / name, workers=0))
    return folder


async def find_serious(tab: Page, state: str) -> list[str]:
    if not await tab.evaluate("typeof axe === 'object'"):
        await tab.evaluate(await run_sync(AXE.read_text))
    found: list[str] = await tab.evaluate(SERIOUS)
    return [f"{state}: {each}" for each in found]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed (npm ci in sweep/report/web)")
@pytest.mark.timeout(240)
async def test_axe_finds_nothing_serious(browser: Browser, results: Path) -> None:
    found: list[str] = []
    tab = await browser.page()
    states = {"cups": ("", "c", "i", "h", "t", "b"), "words": ("", "i", "g v", "?", "s", "m")}
    for name, pressed in states.items():
        await tab.open((results / name / "report.html").as_uri())
        for keys in pressed:
            await tab.press(*keys.split())
            found += await find_serious(tab, f"{name} after {keys or 'opening'}")
            if await tab.evaluate("!!document.querySelector('dialog[open]')"):
                await tab.press("Escape")
    for look in ({"width": 1280, "height": 800, "dark": True}, {"width": 390, "height": 844, "phone": True}):
        await tab.look(**look)  # type: ignore[arg-type]
        await tab.open((results / "cups" / "report.html").as_uri())
        found += await find_serious(tab, json.dumps(look))
    assert found == []


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed (npm ci in sweep/report/web)")
async def test_axe_finds_nothing_serious_in_served_pages(browser: Browser, results: Path, tmp_path: Path) -> None:
    found: list[str] = []
    tab = await browser.page()
    folder = await paint_folder(tmp_path / "cups", Plan(pending=frozenset(range(6, 12)), metrics=False), end=False)
    async with FolderLock(folder), open_view(folder, studies=False) as view:
        await tab.open(view.url)
        found += await find_serious(tab, "live")
    async with open_view(results, all_runs=True) as view:
        await tab.send("Page.navigate", url=view.url)
        await tab.until("document.querySelectorAll('.run a').length === 2")
        found += await find_serious(tab, "overview")
    assert found == []


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, results: Path) -> AsyncIterator[Page]:
    tab = await browser.page()
    await tab.open((results / "cups" / "report.html").as_uri())
    yield tab
    assert tab.problems == []


CONTROLS = """
    window.kinds = 'a[href], button, select, input, textarea, summary, [tabindex="0"]';
    window.controls = () => [...document.querySelectorAll(window.kinds)]
      .filter(one => one.checkVisibility({ visibilityProperty: true }) && !one.disabled && one.tabIndex >= 0);
    window.marked = one => { // where cells or findings are chosen by keys, the chosen one is marked
      const inner = one.querySelector('.cell[data-cursor], li[data-current]');
      const style = getComputedStyle(inner ?? one, inner?.matches('.cell') ? '::after' : null);
      if (inner) return parseFloat(style.borderLeftWidth) >= 2 && style.borderLeftStyle !== 'none';
      return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== 'none'; };
"""


@pytest.mark.slow
async def test_tab_reaches_every_control_and_shows_where_it_is(page: Page) -> None:
    missed: list[str] = []
    for key, panel in (("g", "grid"), ("i", "findings"), ("h", "charts"), ("t", "table")):
        await page.evaluate("document.activeElement.blur()")
        await page.press(key)
        await page.until(f"document.querySelector('sweep-{panel}')?.childElementCount > 0")
        missed += await miss_by_tab(page)
    assert missed == []


async def miss_by_tab(page: Page) -> list[str]:
    """Press Tab through the page; return the controls it does not reach, and those that do not show the focus."""
    await page.evaluate(CONTROLS + "document.body.tabIndex = -1; document.body.focus(); window.reached = new Set()")
    found: list[str] = []
    for _ in range(await page.evaluate("window.controls().length") + 2):
        await page.press("Tab")
        hidden = await page.evaluate(
            "(() => { const one = document.activeElement; window.reached.add(one);"
            " return one === document.body || window.marked(one) ? '' : one.outerHTML.slice(0, 120); })()"
        )
        found += [f"not marked: {hidden}"] if hidden else []
    missed = "window.controls().filter(one => !window.reached.has(one)).map(one => one.outerHTML.slice(0, 120))"
    return found + [f"not reached: {each}" for each in await page.evaluate(missed)]

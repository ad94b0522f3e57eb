"""The page in a real Chromium: nothing leaves it, nothing foreign runs in it, and the keyboard is enough."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio
from anyio.to_thread import run_sync

from sweep import Results
from sweep.record import Counts, FolderLock, SqliteJournal
from sweep.report.compare import compare_runs
from sweep.report.page_json import build_page_json
from sweep.report.report_data import AxisColumn, ReportData
from sweep.report.report_writer import describe_page, write_page, write_report
from sweep.report.thumbnails import ImageLinks
from sweep.report.view_server import open_view
from sweep.study import make_study
from sweep.types import Scalar
from tests.report.painted import EXPERIMENT, HOSTILE, Plan, add, paint_folder, points
from tests.support.chromium import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CELLS = "[...document.querySelectorAll('.cell.has')]"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve points with hostile text, one of them failed, with their report."""
    folder = tmp_path_factory.mktemp("browser") / "my cups #1"
    await paint_folder(folder, Plan(failed={5: f"broke {HOSTILE}"}, size=(96, 72)))
    await run_sync(write_report, folder)
    return folder


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, results: Path) -> AsyncIterator[Page]:
    """The report, opened; at the end nothing may have gone wrong in it."""
    tab = await browser.page()
    await tab.open((results / "report.html").as_uri())
    yield tab
    assert tab.problems == []


async def state(page: Page) -> dict[str, str]:
    told: dict[str, str] = await page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")
    return told


async def test_nothing_leaves_the_page_and_nothing_foreign_runs(page: Page, results: Path) -> None:
    await page.press("ArrowRight", "h", "t", "g", "c", "d", " ", "Escape")
    mine = results.as_uri()
    assert [url for url in page.requests if not url.startswith((mine, "data:", "blob:"))] == []
    assert await page.evaluate("document.title") == "cups · sweep"
    assert await page.evaluate("document.querySelectorAll('img[src=x], b b').length") == 0


async def test_hostile_text_stays_text_everywhere(page: Page) -> None:
    await page.press("ArrowDown", "m")
    text = await page.evaluate("document.body.innerText")
    assert text.count(HOSTILE[:20]) >= 3
    await page.press("Escape", "h", "t")
    assert HOSTILE in await page.evaluate("document.querySelector('sweep-table').innerText")
    assert await page.evaluate("document.title") == "cups · sweep"


async def test_images_are_seen(page: Page) -> None:
    await page.until(f"{CELLS}.length > 4 && {CELLS}.every(cell => cell.querySelector('img').naturalWidth > 0)")
    await page.press("ArrowDown")
    await page.until("document.querySelector('.stage img.a').naturalWidth === 96")
    assert page.problems == []


async def test_a_failed_cell_says_why(page: Page) -> None:
    said = await page.evaluate("document.querySelector('.cell.failed')?.innerText")
    assert "failed" in said
    assert f"broke {HOSTILE[:9]}" in said
    assert "ValueError" not in said  # there is little room: the panel has all of it
    await page.evaluate("document.querySelector('.cell.failed').click()")
    await page.settle()
    assert f"ValueError: broke {HOSTILE}" in await page.evaluate("document.querySelector('sweep-inspector').innerText")


async def test_the_keyboard_is_enough(page: Page) -> None:
    assert await page.evaluate("document.activeElement.getAttribute('role')") == "grid"
    first = await page.evaluate("document.activeElement.getAttribute('aria-activedescendant')")
    await page.press("ArrowDown", "ArrowLeft")
    moved = (await state(page))["cursor"]
    await page.press("ArrowRight")
    assert (await state(page))["cursor"] != moved
    assert await page.evaluate("document.activeElement.getAttribute('aria-activedescendant')") != first
    for key, name, value in (("c", "mode", "compare"), ("d", "mode", "difference"), ("f", "full", "1")):
        await page.press(key)
        assert (await state(page))[name] == value
    await page.press("Escape", "Escape")
    assert not {"mode", "full"} & set(await state(page))
    await page.press("+", "+")
    assert "zoom" in await state(page)
    await page.press("0", "2", "x")
    assert await page.evaluate("document.querySelectorAll('.cell[data-rejected][data-stars=★★]').length") == 1
    await page.press("2", "x", "t", "h", "g", "?")
    assert await page.evaluate("document.querySelector('dialog[open] h2').innerText") == "Keys"
    await page.press("Escape")
    assert await page.evaluate("document.querySelector('dialog')") is None


async def test_blink_shows_the_source_in_every_cell(page: Page) -> None:
    await page.press(" ")
    assert await page.evaluate("document.querySelector('#explorer').hasAttribute('data-blink')")
    seen = f"{CELLS}.every(cell => cell.querySelector('img.b')?.naturalWidth > 0)"
    await page.until(seen)
    await page.press(" ")
    assert await page.evaluate("document.querySelectorAll('img.b[src]').length") == 0


async def test_the_compare_slider_moves_in_all_cells(page: Page) -> None:
    await page.press("c", "]", "]")
    assert (await state(page))["split"] == "60"
    box = await page.evaluate(
        "(() => { const { left, top, width, height } = document.querySelector('.stage').getBoundingClientRect();"
        " return [left, top, width, height]; })()"
    )
    left, top, width, height = box
    await page.drag((left + width * 0.6, top + height / 2), (left + width * 0.2, top + height / 2))
    assert abs(float((await state(page))["split"]) - 20) <= 2


async def test_zoom_and_pan_are_the_same_in_all_cells(page: Page) -> None:
    box = await page.evaluate(
        f"(() => {{ const box = {CELLS}[0].getBoundingClientRect(); return [box.x + box.width / 2, box.y + 20]; }})()"
    )
    await page.wheel(box[0], box[1], -600, modifiers=2)
    transforms = await page.evaluate(
        "[...document.querySelectorAll('.cell img.a, .stage img.a')].filter(image => image.src)"
        ".map(image => getComputedStyle(image).transform.slice(0, 14))"
    )
    assert len(set(transforms)) == 1
    assert transforms[0].startswith("matrix(4.4")
    before = (await state(page))["zoom"]
    await page.drag((box[0], box[1]), (box[0] - 30, box[1] - 10))
    assert (await state(page))["zoom"] != before


async def test_filter_narrows_and_an_empty_result_offers_undo(page: Page) -> None:
    shown = await page.evaluate(f"{CELLS}.length")
    await page.press("/")
    await page.type("denoise_strength < 0.5 ssim > 0.7")
    assert 0 < await page.evaluate(f"{CELLS}.length") < shown
    await page.type(" nonsense")
    assert "No images match this filter." in await page.evaluate("document.querySelector('.empty').innerText")
    await page.evaluate("document.querySelector('.empty button').click()")
    await page.settle()
    assert await page.evaluate(f"{CELLS}.length") == shown


async def test_sliders_go_where_a_filter_leaves_something(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(axes={"denoise_strength": [0.2, 0.4], "variation": list("abcde"), "seed": [1, 2, 3]}, metrics=False)
    folder = await paint_folder(tmp_path / "slid", plan)
    tab = await browser.page()
    address = (await run_sync(write_report, folder)).as_uri()
    await tab.open(f"{address}#x=denoise_strength&y=variation&sx=&sy=")
    assert await tab.evaluate("document.querySelector('.slider output').textContent") == "1"
    await tab.press("/")
    await tab.type("seed = 3")
    assert await tab.evaluate("document.querySelector('.slider output').textContent") == "3"
    assert await tab.evaluate(f"{CELLS}.length") > 4
    assert tab.problems == []


async def test_axes_are_chosen_with_the_keyboard_alone(page: Page) -> None:
    before = await page.evaluate("document.querySelector('.corner').innerText")
    await page.evaluate("document.querySelector('select[aria-label=down]').focus()")
    await page.press("s", "e")
    view = await state(page)
    assert view["y"] == "seed"
    assert await page.evaluate("document.querySelector('.corner').innerText") != before
    assert await page.evaluate("document.activeElement.getAttribute('aria-label')") == "down"


async def test_values_are_hidden_and_shown_again(page: Page, browser: Browser) -> None:
    shown = await page.evaluate(f"{CELLS}.length")
    await page.press("m", "Tab", "Tab", " ")
    assert (await state(page))["hide.denoise_strength"] == "[0.2]"
    await page.press("Escape")
    hidden = await page.evaluate(f"{CELLS}.length")
    assert hidden < shown
    again = await browser.page()
    await again.open(await page.evaluate("location.href"))
    assert await again.evaluate(f"{CELLS}.length") == hidden
    await page.evaluate("document.querySelector('.chip').click()")
    await page.settle()
    assert await page.evaluate(f"{CELLS}.length") == shown


async def test_images_are_compared_with_a_pinned_one_or_another_level(page: Page) -> None:
    pinned = await page.evaluate("document.querySelector('.stage img.a').src")
    await page.press("p", "ArrowDown", "c")
    await page.until("document.querySelector('.stage img.b').naturalWidth > 0")
    assert await page.evaluate("document.querySelector('.stage img.b').src") == pinned
    await page.evaluate(
        "(() => { const box = document.querySelector('[aria-label=\"Compare with\"]');"
        " box.value = [...box.options].find(one => one.text === 'denoise strength 0.2').value;"
        " box.dispatchEvent(new Event('change')); })()"
    )
    await page.until("document.querySelector('.stage img.b').src.includes('s0.20')")


async def test_a_brush_on_a_parallel_coordinate_filters_the_grid(page: Page) -> None:
    await page.press("h")
    await page.until("document.querySelector('.parallel canvas')?.width > 0")
    await page.evaluate("document.querySelector('.parallel canvas').scrollIntoView({ block: 'center' })")
    await page.settle()
    shown = await page.evaluate(f"{CELLS}.length")
    left, top = await page.evaluate(
        "(() => { const { left, top } = document.querySelector('.parallel canvas').getBoundingClientRect();"
        " return [left, top]; })()"
    )
    await page.drag((left + 36, top + 225), (left + 36, top + 100))
    assert await page.evaluate(f"{CELLS}.length") < shown
    assert "in.denoise_strength" in await state(page)
    await page.click(left + 36, top + 60)
    assert await page.evaluate(f"{CELLS}.length") == shown


async def test_any_column_of_the_table_sorts(page: Page, browser: Browser) -> None:
    await page.press("t")
    head = "[...document.querySelectorAll('.thead button')].find(one => one.textContent.startsWith('status'))"
    await page.evaluate(f"{head}.click()")
    await page.settle()
    await page.evaluate(f"{head}.click()")
    await page.settle()
    assert "failed" in await page.evaluate("document.querySelector('.tr').innerText")
    again = await browser.page()
    await again.open(await page.evaluate("location.href"))
    assert "failed" in await again.evaluate("document.querySelector('.tr').innerText")


async def test_a_new_order_is_read_from_its_beginning(page: Page) -> None:
    await page.evaluate("document.querySelector('[aria-label=Order]').value = 'delta_e'")
    await page.evaluate("document.querySelector('[aria-label=Order]').dispatchEvent(new Event('change'))")
    await page.settle()
    first = "document.querySelector('.cell.has[data-cursor]') === document.querySelector('.line:not(.heads) .cell')"
    assert await page.evaluate(first)
    assert "0.2" in await page.evaluate("document.querySelector('.cell[data-cursor]').innerText")


async def test_a_difference_is_shown_brighter(page: Page) -> None:
    await page.press("d", "]", "]")
    assert (await state(page))["gain"] == "4"
    await page.until("[...document.querySelectorAll('.cell.paired img.b')].every(image => image.naturalWidth > 0)")
    shown = "getComputedStyle(document.querySelector('.stage'), '::before').mixBlendMode"
    assert await page.evaluate(shown) == "color-dodge"
    await page.press("[", "[", "[")
    assert "gain" not in await state(page)
    assert await page.evaluate(shown) == "normal"


async def test_a_metric_of_the_panel_colours_the_grid(page: Page) -> None:
    await page.evaluate("document.querySelector('.metrics .by').click()")
    await page.settle()
    assert (await state(page))["colour"] in {"ssim", "delta_e"}
    assert await page.evaluate("document.querySelectorAll('.cell .cap').length") > 4


async def test_groups_of_lines_keep_their_heading_in_sight(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(axes={"denoise_strength": [n / 10 for n in range(9)], "variation": ["a", "b"], "seed": list(range(20))})
    folder = await paint_folder(tmp_path / "grouped", plan)
    tab = await browser.page()
    address = (await run_sync(write_report, folder)).as_uri()
    await tab.open(f"{address}#x=denoise_strength&y=seed&sx=&sy=variation")
    label = "document.querySelector('.group-label').innerText"
    assert await tab.evaluate(label) == "variation a"
    await tab.press(*["PageDown"] * 2)
    box = "document.querySelector('{}').getBoundingClientRect()"
    under = f"{box.format('.group-label')}.top - {box.format('.heads')}.bottom"
    assert abs(await tab.evaluate(under)) < 2
    await tab.press(*["PageDown"] * 9)
    assert await tab.evaluate(label) == "variation b"
    assert tab.problems == []


async def test_a_film_strip_stands_under_the_response(page: Page) -> None:
    await page.press("h")
    await page.until("[...document.querySelectorAll('.strip img')].filter(i => i.naturalWidth > 0).length === 3")
    before = (await state(page)).get("cursor")
    await page.evaluate("document.querySelector('.strip img:last-child').click()")
    await page.settle()
    assert (await state(page))["cursor"] != before


async def test_filter_suggests_a_column_for_a_misspelt_one(page: Page) -> None:
    await page.press("/")
    await page.type("sism > 3")
    assert "Did you mean ssim?" in await page.evaluate("document.querySelector('.problem').innerText")


async def test_address_restores_the_view(browser: Browser, page: Page, results: Path) -> None:
    await page.press("ArrowDown", "c", "h")
    address = await page.evaluate("location.href")
    other = await browser.page()
    await other.open(address)
    assert await state(other) == await state(page)
    assert await other.evaluate("document.querySelector('#explorer').dataset.panel") == "charts"
    assert other.problems == []


async def test_chart_brush_filters_grid_and_grid_lights_chart(page: Page) -> None:
    await page.press("h")
    await page.until("document.querySelectorAll('.response svg circle').length > 3")
    dot = await page.evaluate(
        "(() => { const box = document.querySelector('.response svg [aria-label=dot] circle').getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    await page.hover(*dot)
    assert await page.evaluate("document.querySelector('.tip').hidden") is False
    assert await page.evaluate("!!document.querySelector('.tip img[src]')")
    shown = await page.evaluate(f"{CELLS}.length")
    dots = await page.evaluate("document.querySelectorAll('.response circle').length")
    svg = await page.evaluate(
        "(() => { const { x, y, width, height } = document.querySelector('.response svg').getBoundingClientRect();"
        " return [x, y, width, height]; })()"
    )
    x, y, width, height = svg
    await page.drag((x + 50, y + 10), (x + width * 0.4, y + height - 30))
    assert await page.evaluate(f"{CELLS}.length") < shown
    assert await page.evaluate("document.querySelectorAll('.chip').length") == 1
    await page.settle()
    assert await page.evaluate("document.querySelectorAll('.response circle').length") == dots
    await page.click(x + width - 5, y + height - 5)
    assert await page.evaluate(f"{CELLS}.length") == shown


async def test_a_cell_under_the_pointer_lights_its_point(page: Page) -> None:
    await page.press("h")
    await page.until("!!document.querySelector('.plot .light')")
    places = []
    for at in (0, -1):
        box = await page.evaluate(
            f"(() => {{ const b = {CELLS}.at({at}).getBoundingClientRect(); return [b.x + 9, b.y + 9]; }})()"
        )
        await page.hover(*box)
        places.append(await page.evaluate("document.querySelector('.plot .light').getAttribute('cx')"))
    assert places[0] != places[1]


TAKE = """
    window.taken = [];
    const make = URL.createObjectURL;
    URL.createObjectURL = blob => { blob.text().then(text => window.taken.push(text)); return make(blob); };
    HTMLAnchorElement.prototype.click = () => {};
"""


EXPORTS = "document.querySelectorAll('dialog .row')[1].querySelectorAll('button')"


async def test_selection_exports_as_csv(page: Page) -> None:
    await page.evaluate(TAKE)
    await page.press("/")
    await page.type("seed = 43 -painterly strength <= 0.4")
    await page.press("Escape", "s")
    await page.evaluate(f"[...{EXPORTS}].slice(0, 2).forEach(b => b.click())")
    await page.until("window.taken.length === 2")
    table, experiment = sorted(await page.evaluate("window.taken"), key=lambda text: "workflow" in text)
    assert table.splitlines()[0].startswith("key,denoise_strength,variation,seed,")
    assert len(table.splitlines()) == 5
    assert "name: cups-selection" in experiment
    assert '- "denoise_strength in [0.2, 0.4]"' in experiment
    assert '- "seed == 43"' in experiment


async def exported(page: Page) -> str:
    """The experiment file that the page gives."""
    await page.evaluate(TAKE)
    await page.press("s")
    await page.evaluate(f"{EXPORTS}[1].click()")
    await page.until("window.taken.length === 1")
    text: str = (await page.evaluate("window.taken"))[0]
    return text


async def kept(text: str) -> list[int]:
    """Indices of the points of the painted grid that an experiment's conditions leave."""
    from ruamel.yaml import YAML

    from sweep.experiment import NamedAxis, compile_clause

    told = await run_sync(lambda: YAML(typ="safe", pure=True).load(text))
    axes = [NamedAxis("denoise_strength", "number"), NamedAxis("variation", "text"), NamedAxis("seed", "number")]
    clauses = [compile_clause(clause, axes, wanted=True) for clause in told.get("where", [])]
    clauses += [compile_clause(clause, axes, wanted=False) for clause in told.get("exclude", [])]
    return [point.index for point in points(Plan(), None) if all(clause.holds(point.values) for clause in clauses)]


async def test_the_selection_is_an_experiment_that_loads(page: Page) -> None:
    await page.press("/")
    await page.type("ssim > 0.6")
    await page.press("Escape")
    passing = [index for index in range(12) if 1 - (0.2, 0.4, 0.6)[index // 4] + index / 1000 > 0.6 and index != 5]
    assert await kept(await exported(page)) == passing


async def test_a_selection_of_a_drawn_design_is_written_out(browser: Browser, tmp_path: Path) -> None:
    """A design would draw again from what the conditions leave: the file asks for just the chosen points instead."""
    drawn = EXPERIMENT + "design:\n  kind: random\n  points: 7\n"
    folder = await paint_folder(tmp_path / "design", Plan(experiment=drawn, pending=frozenset({1, 4, 5, 6, 9})))
    tab = await browser.page()
    await tab.open((await run_sync(write_report, folder)).as_uri() + "#filter=ssim%20%3C%200.75")
    told = await exported(tab)
    assert "design" not in told
    chosen = [index for index in (0, 2, 3, 7, 8, 10, 11) if 1 - (0.2, 0.4, 0.6)[index // 4] + index / 1000 < 0.75]
    assert await kept(told) == chosen


async def test_seeds_that_were_drawn_are_written_down(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(experiment=EXPERIMENT.replace("{{start: 42, count: 2}}", "{{count: 2}}  # drawn"), metrics=False)
    folder = await paint_folder(tmp_path / "drawn", plan)
    tab = await browser.page()
    await tab.open((await run_sync(write_report, folder)).as_uri() + "#filter=seed%3D43")
    experiment = await exported(tab)
    assert "  seed: [43]  # drawn" in experiment
    assert "where" not in experiment


async def test_blind_mode_hides_settings(page: Page) -> None:
    await page.press("b", "ArrowRight")
    text = await page.evaluate("document.querySelector('#explorer').innerText")
    for word in ("0.4", "studio", "42", "ssim"):
        assert word not in text


async def test_ratings_stay_when_the_page_is_opened_again(browser: Browser, results: Path) -> None:
    tab = await browser.page()
    await tab.open((results / "report.html").as_uri())
    await tab.press("3", "n")
    await tab.type("the best one")
    await tab.open((results / "report.html").as_uri() + "#filter=rating%20%3E%3D%203")
    assert await tab.evaluate(f"{CELLS}.length") == 1
    await tab.open((results / "report.html").as_uri() + "#filter=%22best%20one%22")
    await tab.evaluate("localStorage.clear()")


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
async def test_nothing_scrolls_sideways_but_the_grid(browser: Browser, results: Path, width: int, phone: bool) -> None:
    tab = await browser.page(width=width, height=844, phone=phone)
    for panel in ("grid", "charts", "table"):
        await tab.open(f"{(results / 'report.html').as_uri()}#panel={panel}")
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await tab.evaluate("document.querySelector('.setup').click()")
        await tab.settle()
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.problems == []


async def test_on_a_phone_the_panel_is_a_sheet_from_below(browser: Browser, results: Path) -> None:
    tab = await browser.page(width=390, height=844, phone=True)
    await tab.open((results / "report.html").as_uri())
    top = "document.querySelector('sweep-inspector').getBoundingClientRect().top"
    assert await tab.evaluate(top) > 700
    await tab.evaluate("document.querySelector('.grip').click()")
    await tab.until(f"{top} < 500")
    await tab.evaluate("document.querySelector('.grip').click()")
    await tab.until(f"{top} > 700")
    await tab.evaluate("document.querySelector('.cell[data-cursor]').click()")
    await tab.until(f"{top} < 500")


async def test_two_fingers_zoom(browser: Browser, results: Path) -> None:
    tab = await browser.page(width=390, height=844, phone=True)
    await tab.open((results / "report.html").as_uri())
    await tab.evaluate("document.querySelector('.grip').click()")
    await tab.until("document.querySelector('sweep-inspector').getBoundingClientRect().top < 500")
    await tab.until("!document.getAnimations().some(one => one.playState === 'running')")  # the sheet has come up
    middle = await tab.evaluate(
        "(() => { const box = document.querySelector('.stage').getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    x, y = middle
    for kind, apart in (("touchStart", 20), ("touchMove", 30), ("touchMove", 60)):
        fingers = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        await tab.send("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)
    await tab.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    await tab.until("location.hash.includes('zoom')")
    assert 2 < float((await state(tab))["zoom"].split(",")[0]) <= 3.1


async def test_names_roles_and_contrast(page: Page) -> None:
    nameless = await page.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter(e => e.offsetParent && !(e.innerText.trim()"
        " || e.getAttribute('aria-label') || e.title || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert await page.evaluate("document.querySelectorAll('[role=grid] [role=row] > [role=gridcell]').length") > 0
    assert await page.evaluate("document.querySelector('[role=gridcell]').getAttribute('aria-label')")
    contrast = """
        (() => {
          const probe = document.body.appendChild(document.createElement('i'));
          const light = name => {
            probe.style.color = `var(${name})`;
            const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
          };
          const back = light('--bg');
          const ratios = ['--ink', '--dim', '--accent', '--red', '--yellow', '--green'].map(name => {
            const [low, high] = [light(name), back].sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
          });
          probe.remove();
          return Math.min(...ratios);
        })()
    """
    for dark in (False, True):
        await page.look(width=1280, height=800, dark=dark)
        assert await page.evaluate(contrast) >= 4.5


def large(folder: Path) -> Path:
    """A page of 100,000 cells, without image files."""
    shape = (100, 100, 10)
    strength, prompt, seed = (axis.ravel() for axis in np.indices(shape))
    count = len(seed)
    frame = pd.DataFrame(
        {
            "index": np.arange(count),
            "key": [f"{number:032x}"[::-1] for number in range(count)],
            "strength": strength / 100,
            "prompt": [f"prompt {number}" for number in prompt],
            "seed": seed,
            "status": np.where(np.arange(count) % 97 == 0, "failed", "completed"),
            "error": ["it broke" if number % 97 == 0 else None for number in range(count)],
            "metric": np.random.default_rng(1).normal(0, 1, count),
        }
    )
    axes = tuple(
        AxisColumn(*axis)
        for axis in (("strength", "number", "strength"), ("prompt", "text", "prompt"), ("seed", "seed", "seed"))
    )
    material = ReportData(
        folder=folder, name="large", description="", frame=frame, axes=axes, counts=Counts(points=count)
    )
    shown = ImageLinks(prefix="", thumbs=frozenset(), embedded=False, thumb_prefix="thumbs/")
    return write_page(folder / "large.html", build_page_json(material, shown), describe_page(material), {})


async def test_a_hundred_thousand_cells_are_few_elements(browser: Browser, tmp_path: Path) -> None:
    tab = await browser.page()
    await tab.open((await run_sync(large, tmp_path)).as_uri())
    nodes = "document.querySelectorAll('*').length"
    assert await tab.evaluate(nodes) < 2000
    for keys in (["{"] * 12, ["End"], ["PageDown"] * 3, ["."], ["t"], ["h"]):
        await tab.press(*keys)
        assert await tab.evaluate(nodes) < 2000
    await tab.press("g")
    await tab.evaluate("document.querySelector('sweep-grid .scroll').scrollTop = 1e7")
    await tab.settle()
    assert await tab.evaluate("document.querySelectorAll('.cell').length") > 20
    assert tab.problems == []


async def test_live_rows_appear_without_reloading(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(pending=frozenset(range(6, 12)), metrics=False)
    folder = await paint_folder(tmp_path / "cups", plan, end=False)
    async with FolderLock(folder), open_view(folder, studies=False) as view:
        tab = await browser.page()
        await tab.open(view.url)
        before = await tab.evaluate(f"{CELLS}.length")
        assert await tab.evaluate("document.querySelectorAll('.cell.queued').length") == 6
        assert "6 of 12" in await tab.evaluate("document.querySelector('.progress-head').innerText")
        async with await SqliteJournal.open(folder) as journal:
            await add(folder, journal, plan, [point for point in points(plan, None) if point.index >= 6])
            view.feed.wake()
            await tab.until(f"{CELLS}.length > {before}")
        await tab.until(f"{CELLS}.every(cell => cell.querySelector('img').naturalWidth > 0)")
        await tab.until("document.querySelector('.progress-head').innerText.includes('12 of 12')")
        assert [url for url in tab.requests if not url.startswith((view.url, "data:"))] == []
        assert tab.problems == []


async def test_an_ended_run_says_that_its_images_are_being_measured(browser: Browser, tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(failed={1: "out of memory"}, metrics=False))
    async with open_view(folder, studies=False) as view:
        tab = await browser.page()
        await tab.open(view.url)
        head = "document.querySelector('.progress-head')?.innerText ?? ''"
        said = await tab.evaluate(head)
        assert "11 of 12" in said
        assert "the run has ended · measuring the images" in said
        await view.finish(measure=False)
        await tab.until("performance.getEntriesByName('sweep-report').length > 0")
        assert await tab.evaluate(head) == ""
        assert tab.problems == []


async def test_a_page_opened_before_the_first_image_tells_what_later_rows_hold(
    browser: Browser, tmp_path: Path
) -> None:
    plan = Plan(pending=frozenset(range(12)), metrics=False)
    folder = await paint_folder(tmp_path / "cups", plan, end=False)
    source = hashlib.sha256(await run_sync((folder / "inputs" / "cup.png").read_bytes)).hexdigest()
    async with FolderLock(folder), open_view(folder, studies=False) as view:
        tab = await browser.page()
        await tab.open(view.url)
        async with await SqliteJournal.open(folder) as journal:
            await add(folder, journal, plan, points(plan, source)[:6])
            view.feed.wake()
            await tab.until(f"{CELLS}.length > 0")
        told = await tab.evaluate("document.querySelector('sweep-inspector').innerText")
        assert "a cup, studio lighting" in told
        assert "tiny-sd" in told
        assert await tab.evaluate("document.querySelector('.reference select').value") == "source"
        assert "seconds" in await tab.evaluate("document.querySelector('[aria-label=\"Colour by\"]').innerText")
        assert tab.problems == []


async def test_a_live_page_learns_that_two_axes_go_in_step(browser: Browser, tmp_path: Path) -> None:
    axes: dict[str, list[Scalar]] = {"variation": ["a", "b", "c"], "negative": ["x", "y", "z"], "seed": [1, 2]}
    plan = Plan(axes=axes, pending=frozenset(range(18)), metrics=False, source=False)
    folder = await paint_folder(tmp_path / "cups", plan, end=False)
    zipped = [point for point in points(plan, None) if (point.index // 6) == (point.index // 2) % 3]
    places = "[...document.querySelectorAll('.side select')].map(each => each.value).filter(Boolean).sort().join()"
    async with (
        FolderLock(folder),
        open_view(folder, studies=False) as view,
        await SqliteJournal.open(folder) as journal,
    ):
        await add(folder, journal, plan, zipped[:2])
        tab = await browser.page()
        await tab.open(view.url)
        assert await tab.evaluate(places) == "negative,seed,variation"
        await add(folder, journal, plan, zipped[2:4])
        view.feed.wake()
        await tab.until(f"{places} === 'seed,variation'")
        assert tab.problems == []


async def test_pages_say_that_their_server_is_gone(browser: Browser, tmp_path: Path) -> None:
    """`sweep run --view` ends its server when the page has the report: what is rated then has to be exported."""
    folder = await paint_folder(tmp_path / "cups")
    async with open_view(tmp_path, all_runs=True, studies=False) as view:
        overview, tab = await browser.page(), await browser.page()
        await overview.open(view.url)
        await tab.open(f"{view.url}{folder.name}/")
        unsaved = "document.querySelector('.unsaved').textContent"
        assert await tab.evaluate(unsaved) == ""
    await tab.press("4")
    await tab.until(f"{unsaved}.startsWith('Not saved')")
    await overview.until("document.querySelector('.runs-tools').innerText.includes('Connection lost')")


ENDINGS = ("completed", "failures", "interrupted", "stopped-by-failures", "killed")


@pytest.mark.timeout(150)
@pytest.mark.parametrize("ending", ["failures", "killed"])
async def test_live_page_becomes_the_report(browser: Browser, tmp_path: Path, ending: str) -> None:
    await check_page_to_the_end(browser, tmp_path / "cups", ending)


@pytest.mark.full
async def test_live_page_becomes_the_report_in_twenty_runs_of_twenty(browser: Browser, tmp_path: Path) -> None:
    for number in range(20):
        await check_page_to_the_end(browser, tmp_path / str(number), ENDINGS[number % len(ENDINGS)])


async def check_page_to_the_end(browser: Browser, folder: Path, ending: str) -> None:
    """Open the page of a run that goes on, let it end, and expect the report under the same selection."""
    plan = Plan(pending=frozenset(range(6, 12)), failed={1: "out of memory"})
    await paint_folder(folder, plan, end=False)
    async with open_view(folder) as view:
        async with await SqliteJournal.open(folder) as journal, FolderLock(folder):
            await view.feed.refresh()
            tab = await browser.page()
            await tab.open(view.url)
            await tab.press("ArrowRight")
            cursor = await tab.evaluate("document.querySelector('.cell[data-cursor]').id")
            assert await tab.evaluate("document.querySelector('sweep-summary').hidden")
            if ending != "killed":
                await journal.end_run(1, ending)
        await tab.until("performance.getEntriesByName('sweep-report').length > 0", seconds=90)  # measured and studied
        assert await tab.evaluate("document.querySelector('.cell[data-cursor]').id") == cursor
        assert await tab.evaluate("document.querySelector('.progress-head')") is None
        await tab.press("4")
        assert await tab.evaluate("document.querySelector('.cell[data-cursor]').dataset.stars") == "★★★★"
        assert not await tab.evaluate("document.querySelector('sweep-summary').hidden")
        assert await tab.evaluate("document.querySelector('section.end').innerText.includes('out of memory')")
        assert tab.problems == []
    await tab.close()


async def test_two_runs_side_by_side(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(size=(96, 72))
    before = await paint_folder(tmp_path / "before", plan)
    after = await paint_folder(tmp_path / "after", replace(plan, shade=80))
    found = await run_sync(compare_runs, before, after)
    tab = await browser.page()
    await tab.open(found.page.as_uri())
    await tab.press("c")
    await tab.until("document.querySelectorAll('.cell img.b').length > 4")
    addresses = await tab.evaluate("[...document.querySelectorAll('.stage img')].map(i => decodeURI(i.src))")
    assert [Path(address).parts[-3] for address in addresses] == ["after", "before"]
    assert "the same point in before" in await tab.evaluate("document.querySelector('sweep-inspector').innerText")
    assert tab.problems == []


@pytest.mark.parametrize("kind", ["nothing", "failed"])
async def test_a_page_without_images_says_so(browser: Browser, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind == "failed":
        await paint_folder(folder, Plan(failed=dict.fromkeys(range(12), "it broke"), metrics=False))
    tab = await browser.page()
    page = await run_sync(lambda: write_report(folder))
    await tab.open(page.as_uri())
    text = await tab.evaluate("document.body.innerText")
    assert ("it broke" if kind == "failed" else "There are no results in this folder yet.") in text
    assert tab.problems == []


SHAPES: dict[str, Plan] = {
    "no axis": Plan(axes={}),
    "one point": Plan(axes={"seed": [42]}, metrics=False, source=False),
    "one axis": Plan(axes={"denoise_strength": [0.2, 0.4, 0.6]}),
    "one axis of words": Plan(axes={"variation": ["studio", HOSTILE]}, metrics=False, source=False),
    "text to image": Plan(axes={"cfg_scale": [4, 7], "seed": [1, 2]}, source=False),
    "several images a point": Plan(axes={"denoise_strength": [0.2, 0.4], "seed": [1, 2]}, images=3),
    "all failed": Plan(failed=dict.fromkeys(range(12), HOSTILE), metrics=False),
    "unfinished": Plan(pending=frozenset(range(3, 12))),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_view_stands_whatever_the_results_are(browser: Browser, tmp_path: Path, shape: str) -> None:
    plan = SHAPES[shape]
    folder = await paint_folder(tmp_path / "cups", plan)
    tab = await browser.page()
    await tab.open((await run_sync(lambda: write_report(folder))).as_uri())
    count = len(points(plan, None)) - len(plan.failed) - len(plan.pending)
    wanted = "cell failed" if plan.failed else "cell has"
    assert await tab.evaluate(f"document.querySelectorAll('.cell[class*=\"{wanted}\"]').length") >= min(1, count or 1)
    assert await tab.evaluate("document.querySelectorAll('.cell[data-cursor]').length") == 1
    await tab.press("c", "d", " ", "f", "Escape", "Escape", "Escape", "z", "0", "h", "t", "b", "b", "g", "m", "Escape")
    await tab.press("ArrowRight", "ArrowDown", "Home", "End", "PageDown", "p", "1", "x", "x", "1")
    assert await tab.evaluate("document.title") == "cups · sweep"
    assert tab.problems == []


async def test_a_mailed_page_says_that_it_holds_previews(browser: Browser, tmp_path: Path) -> None:
    """Alone in another folder it enlarges no preview without saying so, and names no folder of its author."""
    folder = await paint_folder(tmp_path / "author" / "cups", Plan(size=(384, 288), axes={"seed": [1, 2]}))
    page = await run_sync(write_report, folder)
    mailed = tmp_path / "reader" / "report.html"
    await run_sync(mailed.parent.mkdir)
    await run_sync(page.rename, mailed)
    assert str(tmp_path) not in await run_sync(mailed.read_text)
    tab = await browser.page()
    await tab.open(f"{mailed.as_uri()}#size=500")
    notice = "document.querySelector('.previews')?.innerText ?? ''"
    await tab.until(f"({notice}).includes('previews of 256 px')")
    scale = "document.querySelector('sweep-inspector .scale').innerText"
    await tab.until(f"({scale}).startsWith('Preview of 256 px')")
    assert await tab.evaluate("document.querySelector('.stage').clientWidth") > 256
    assert "enlarged" not in await tab.evaluate(scale)
    await tab.press("+", "+")
    assert "enlarged" in await tab.evaluate(scale)
    whole = await run_sync(lambda: write_report(folder, out=tmp_path / "reader" / "whole.html", originals=True))
    await tab.open(whole.as_uri())
    await tab.until("document.querySelector('.stage img.a').naturalWidth === 384")
    assert await tab.evaluate(notice) == ""


async def test_counts_stand_beside_their_line_under_their_name(browser: Browser, tmp_path: Path) -> None:
    """With one axis, a line has no name on its left; with many columns, they pass under the counts."""
    box = "(name) => (({ left, right }) => [left, right])(document.querySelector(name).getBoundingClientRect())"
    for seeds in ({}, {"seed": list(range(24))}):
        plan = Plan(axes={"denoise_strength": [0.2, 0.4, 0.6], **seeds}, size=(96, 72))
        folder = await paint_folder(tmp_path / f"{len(seeds)} seeds", plan)
        study = await run_sync(lambda: make_study(folder, metrics=["structure_coarse"], workers=0))  # noqa: B023
        page = await run_sync(lambda: write_report(folder, study=study.to_json()))  # noqa: B023
        tab = await browser.page()
        await tab.open(f"{page.as_uri()}#x=seed&y=denoise_strength&sx=&sy=" if seeds else page.as_uri())
        head, counts = await tab.evaluate(f"['.sum-head', '.row-sum'].map({box})")
        assert head == counts
        assert await tab.evaluate("document.querySelector('.sum-head').innerText") == "held"
        images = await tab.evaluate(f"{CELLS}.map(cell => cell.getBoundingClientRect().left)")
        assert min(images) < counts[0]
        at = f"document.elementFromPoint({(head[0] + head[1]) / 2}, "
        top = await tab.evaluate("document.querySelector('.sum-head').getBoundingClientRect().bottom")
        assert await tab.evaluate(f"{at}{top - 6}).className") == "sum-head"
        names = "[...document.querySelectorAll('.sum-name, .row-head span')].filter(name => name.innerText)"
        assert min(await tab.evaluate(f"[...{names}.map(name => name.getBoundingClientRect().left), 9]")) >= 0
        assert tab.problems == []


async def test_the_strip_shows_all_its_counts(browser: Browser, tmp_path: Path) -> None:
    prompts = ["enhanced colors", "painterly effect", "dramatic lighting", "winter light", "soft focus"]
    strengths = [round(0.1 * step, 1) for step in range(1, 11)]
    axes: dict[str, list[Scalar]] = {"denoise_strength": [*strengths], "variation": [*prompts], "seed": [1, 2, 3, 4]}
    folder = await paint_folder(tmp_path / "cups", Plan(axes=axes, size=(32, 24)))
    study = await run_sync(lambda: make_study(folder, metrics=["structure_coarse"], workers=0))
    tab = await browser.page()
    await tab.open((await run_sync(lambda: write_report(folder, study=study.to_json()))).as_uri())
    assert "of 200" in await tab.evaluate("document.querySelector('.sum.all').innerText")
    room, width = await tab.evaluate("(s => [s.clientWidth, s.scrollWidth])(document.querySelector('.strip-figure'))")
    assert width <= room


async def test_a_long_word_of_the_prompt_stays_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    axes: dict[str, list[Scalar]] = {"variation": ["x" * 80, "painterly"], "seed": [1, 2, 3]}
    folder = await paint_folder(tmp_path / "cups", Plan(axes=axes, source=False, metrics=False))
    study = await run_sync(lambda: make_study(folder, workers=0))
    tab = await browser.page(width=390, height=844, phone=True)
    page = await run_sync(lambda: write_report(folder, study=study.to_json()))
    await tab.open(f"{page.as_uri()}#panel=findings")
    await tab.until("document.querySelectorAll('.prompt-chart .word').length > 1")
    bars = await tab.evaluate(
        "[...document.querySelectorAll('.prompt-chart i')].map(bar => bar.getBoundingClientRect())"
        ".map(({ width, right }) => [width, right])"
    )
    assert all(width > 60 and right <= 390 for width, right in bars)


async def test_the_overview_names_the_folder_of_a_run_called_otherwise(browser: Browser, tmp_path: Path) -> None:
    for name in ("cups", "cups #2"):
        await paint_folder(tmp_path / name)
    async with open_view(tmp_path, all_runs=True) as view:
        tab = await browser.page()
        await tab.open(view.url)
        names = await tab.evaluate("[...document.querySelectorAll('.run a')].map(a => a.parentElement.innerText)")
        assert sorted(name.split("\n")[0] for name in names) == ["cups", "cups in cups #2/"]
        await tab.press("/")
        await tab.type("#2")
        assert await tab.evaluate("document.querySelectorAll('li.run').length") == 1
        assert tab.problems == []


async def test_names_of_parallel_coordinates_stay_on_the_canvas(browser: Browser, results: Path) -> None:
    tab = await browser.page()
    await tab.open((results / "report.html").as_uri())
    await tab.evaluate(
        "(() => { const canvas = CanvasRenderingContext2D.prototype, own = canvas.fillText; window.written = [];"
        " canvas.fillText = function (text, x, y) { const half = this.measureText(text).width / 2;"
        " window.written.push([text, x - half, x + half, parseFloat(this.canvas.style.width)]);"
        " own.call(this, text, x, y); }; })()"
    )
    await tab.press("h")
    await tab.until("window.written.some(([text]) => text.startsWith('denoise'))")
    written = await tab.evaluate("window.written")
    assert [text for text, left, right, width in written if left < -0.5 or right > width + 0.5] == []


LONG_LEVELS = ["x" * 90, *(f"a prompt of many words about a cup of coffee on a table, {end}" for end in "abcdef")]


async def test_long_levels_stay_inside_dialog_paper_and_charts(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(axes={"variation": LONG_LEVELS, "cfg_scale": [4, 7], "seed": [1, 2]}, size=(32, 24))
    folder = await paint_folder(tmp_path / "cups", plan)
    page = await run_sync(lambda: write_report(folder))
    phone = await browser.page(width=390, height=844, phone=True)
    await phone.open(page.as_uri())
    await phone.press("m")
    await phone.until("document.querySelectorAll('dialog .check').length > 7")
    edges = "[...document.querySelectorAll('dialog .check')].map(one => one.getBoundingClientRect().right)"
    assert max(await phone.evaluate(edges)) <= 378
    tab = await browser.page(width=680)
    await tab.open(f"{page.as_uri()}#x=cfg_scale&sx=variation&y=seed&sy=")
    await tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    await tab.until("document.querySelectorAll('.paper-numbers').length > 0")
    await tab.send("Emulation.setEmulatedMedia", media="print")
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 680
    charts = await browser.page()
    await charts.open(f"{page.as_uri()}#panel=charts&along=variation&group=cfg_scale")
    await charts.until("document.querySelectorAll('.plot text').length > 20")
    ends = "[...document.querySelectorAll('.plot text')].map(text => text.getBoundingClientRect().right)"
    assert max(await charts.evaluate(ends)) <= 1280
    assert [*phone.problems, *tab.problems, *charts.problems] == []


async def test_one_image_says_what_made_it(browser: Browser, tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups", Plan(axes={"seed": [42]}, source=False))
    study = await run_sync(lambda: make_study(folder, metrics=["sharpness"], workers=0))
    tab = await browser.page()
    await tab.open((await run_sync(lambda: write_report(folder, study=study.to_json()))).as_uri())
    assert await tab.evaluate("document.querySelector('sweep-summary h2').innerText") == (
        "One image: nothing to compare it with yet."
    )
    assert "seed 42" in await tab.evaluate("document.querySelector('dl.made dd').innerText")


async def test_clicks_on_the_page_become_columns_advice_and_a_ranking(browser: Browser, tmp_path: Path) -> None:
    """The whole way: stars, a rejection, a note and blind choices in the browser; then the table and the study."""
    axes: dict[str, list[Scalar]] = {
        "denoise_strength": [0.2, 0.6],
        "variation": ["studio", "painterly"],
        "seed": [42, 43],
    }
    folder = await paint_folder(tmp_path / "cups", Plan(axes=axes, size=(96, 72)))
    async with open_view(folder, studies=False) as view:
        tab = await browser.page()
        await tab.open(view.url)
        await tab.evaluate(
            "(() => { const send = window.fetch; window.kept = []; window.fetch = async (...asked) => {"
            " const answer = await send(...asked); window.kept.push(JSON.parse(asked[1].body)); return answer; }; })()"
        )
        await rate_all(tab, {"0.2": "4", "0.6": "2"})
        await tab.press("x", "n")
        await tab.type("melted")
        await tab.press("Escape", "v", "ArrowLeft", " ", "z", "ArrowRight")
        await tab.until(
            "window.kept.flatMap(sent => [...sent.choices, ...sent.withdrawn]).length === 4"
        )  # one taken back
        await tab.press("Escape")
        assert await tab.evaluate("document.querySelector('dialog') === null")
        assert tab.problems == []

    results = await run_sync(Results.open, folder)
    loved = await run_sync(lambda: results.table(where="rating >= 4"))
    assert loved["denoise_strength"].tolist() == [0.2] * 4
    assert (await run_sync(lambda: results.table(where="rejected")))["note"].tolist() == ["melted"]
    study = await run_sync(lambda: make_study(folder, metrics=["ssim"], workers=0))
    advice = "Use denoise strength 0.2 or less: 4 stars or more in 4 of 4 images at 0.2, in 0 of 4 at 0.6."
    assert advice in [each["text"] for each in study.data["words"] if each["headline"]]
    assert [(found["axis"], found["choices"]) for found in study.data["choices"]] == [("variation", 2)]
    assert study.table["rejected"].sum() == 1


async def test_two_pages_of_one_run_lose_no_ratings(browser: Browser, tmp_path: Path) -> None:
    folder = await paint_folder(tmp_path / "cups")
    async with open_view(folder, studies=False) as view:
        tabs = [await browser.page(), await browser.page()]
        for tab in tabs:
            await tab.open(view.url)
        await tabs[0].press("3", "n")
        await tabs[0].type("long " * 500)
        await tabs[0].press("Escape")
        kept = "fetch(location.href).then(answer => answer.text()).then(text => text.includes('long long'))"
        while not await tabs[1].evaluate(kept):
            pass
        await tabs[1].press("ArrowDown", "4")
        await tabs[1].send("Page.navigate", url="about:blank")  # at once
        await tabs[1].until("location.href === 'about:blank'")
        await tabs[0].open(view.url)
        await tabs[0].until("document.querySelectorAll('.cell[data-stars]').length === 2")
    marks = json.loads((folder / "ratings.json").read_text("utf-8"))["ratings"].values()
    assert sorted(mark["stars"] for mark in marks) == [3, 4]
    assert [len(mark["note"]) for mark in marks if mark.get("note")] == [2000]  # the most that the field takes


async def rate_all(tab: Page, stars: dict[str, str]) -> None:
    """Click each image of every place of the sliders, and press the key of its strength."""
    rated: set[str] = set()
    for slide in ("", "."):
        await tab.press(*slide)
        for row in await tab.evaluate(f"{CELLS}.map(cell => cell.dataset.row)"):
            cell = f"document.querySelector('.cell[data-row=\"{row}\"]')"
            x, y, told = await tab.evaluate(
                f"(() => {{ {cell}.scrollIntoView({{block: 'center'}}); const box = {cell}.getBoundingClientRect();"
                f" return [box.x + box.width / 2, box.y + box.height / 2, {cell}.ariaLabel]; }})()"
            )
            if row not in rated:
                await tab.click(x, y)
                await tab.press(next(key for level, key in stars.items() if level in told))
                rated.add(row)
    assert len(rated) == 8


async def test_damaged_images_say_so_in_their_cells(browser: Browser, folder: Path) -> None:
    images = sorted((folder / "images").rglob("*.png"))
    images[0].unlink()
    images[1].write_bytes(b"not an image")
    tab = await browser.page()
    await tab.open((await run_sync(lambda: write_report(folder))).as_uri())
    lost = "[...document.querySelectorAll('.cell.lost')].map(cell => cell.innerText)"
    assert await tab.evaluate(lost) == ["image missing or unreadable"] * 2
    assert tab.problems == []


async def test_a_print_of_many_images_holds_the_lines_that_fit(browser: Browser, tmp_path: Path) -> None:
    plan = Plan(axes={"denoise_strength": [0.2, 0.45, 0.7], "variation": list("ABCD"), "seed": [1, 2, 3, 4]})
    folder = await paint_folder(tmp_path / "many", plan)
    await run_sync(write_report, folder)
    tab = await browser.page()
    await tab.open((folder / "report.html").as_uri())

    await tab.evaluate("dispatchEvent(new Event('beforeprint'))")

    await tab.until("document.querySelectorAll('.paper-grid img').length === 36")
    assert "12 of 48 images are not shown" in await tab.evaluate(
        "document.querySelector('.paper-grid + p').textContent"
    )
    ticks = "[...document.querySelectorAll('.paper-curve text')].map(text => text.textContent)"
    assert {"0.2", "0.45", "0.7"} <= set(await tab.evaluate(ticks))


async def count_printed_pages(page: Page) -> int:
    answer = await page.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
    return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(answer["data"])))


async def report_of(folder: Path, plan: Plan, *metrics: str) -> str:
    """Paint a folder and study it; return the address of its report."""
    await paint_folder(folder, plan)
    study = await run_sync(lambda: make_study(folder, metrics=[*metrics], workers=0))
    return (await run_sync(lambda: write_report(folder, study=study.to_json()))).as_uri()


async def test_a_small_run_prints_on_two_pages(browser: Browser, tmp_path: Path) -> None:
    """The quickstart's shape; and tall images, which would need a page each line."""
    words = ["enhanced colors and lighting", "painterly effect", "dramatic lighting"]
    axes: dict[str, Sequence[Scalar]] = {"denoise_strength": [0.2, 0.4, 0.6], "variation": words, "seed": [42, 43]}
    tall = Plan(axes={"cfg_scale": [2, 7, 12], "seed": [1, 2, 3]}, size=(64, 128), source=False)
    shapes = {
        "cups": (Plan(axes=axes, size=(96, 96)), ("structure_coarse", "ssim", "delta_e")),
        "tall": (tall, ("sharpness", "contrast", "colourfulness")),
    }
    for name, (plan, metrics) in shapes.items():
        tab = await browser.page()
        await tab.open(await report_of(tmp_path / name, plan, *metrics))
        assert (name, await count_printed_pages(tab)) == (name, 2)
        assert tab.problems == []


PAPER = "document.querySelector('.paper')"


async def print_view(tab: Page, address: str) -> str:
    await tab.open(address)
    await tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    await tab.until(f"!!{PAPER}.querySelector('.paper-grid')")
    text: str = await tab.evaluate(f"{PAPER}.textContent")
    return text


async def test_a_print_says_which_part_it_shows(browser: Browser, tmp_path: Path) -> None:
    axes: dict[str, Sequence[Scalar]] = {"cfg_scale": [4, 7, 9], "variation": ["dawn", "dusk"], "seed": [1, 2]}
    address = await report_of(tmp_path / "cups", Plan(axes=axes, source=False), "sharpness")
    tab = await browser.page()
    text = await print_view(tab, f"{address}#x=cfg_scale&y=seed&sx=&sy=&at.variation=%22dusk%22")
    assert "Only variation dusk." in text
    assert "6 of 12 images are not shown." in text
    text = await print_view(tab, f"{address}#sort=sharpness")
    assert "→" not in text.split("Sharpness by")[0]  # a list has no columns: each image says what it is
    names = await tab.evaluate("[...document.querySelectorAll('.paper-grid td')].map(cell => cell.textContent)")
    assert "cfg scale 9 · variation dusk · seed 2" in names
    text = await print_view(tab, f"{address}#blind=1")
    assert text == ""
    assert tab.problems == []


async def test_a_print_covers_no_counts_with_the_source_image(browser: Browser, tmp_path: Path) -> None:
    axes: dict[str, Sequence[Scalar]] = {"denoise_strength": [round(0.05 * n, 2) for n in range(1, 20)], "seed": [1, 2]}
    address = await report_of(tmp_path / "cups", Plan(axes=axes, size=(64, 64)), "structure_coarse")
    tab = await browser.page(width=680, height=960)
    await print_view(tab, address)
    await tab.send("Emulation.setEmulatedMedia", media="print")
    box = "document.querySelector('{}').getBoundingClientRect()"
    strip, source = box.format(".strip-figure"), box.format(".paper-source")
    assert await tab.evaluate(f"{strip}.bottom > 0 && {source}.height > 50 && {source}.top >= {strip}.bottom")


async def test_one_image_prints_without_headings_of_axes(browser: Browser, tmp_path: Path) -> None:
    tab = await browser.page()
    address = await report_of(tmp_path / "cup", Plan(axes={}, source=False), "sharpness")
    assert "→" not in await print_view(tab, address)
    first = f"{PAPER}.querySelector('.paper-numbers td').parentElement.textContent"
    assert (await tab.evaluate(first)).startswith("sharpness")


COPY_SETTINGS = "document.querySelector('[aria-label=\"Copy settings\"]')"


async def test_a_button_copied_with_twice_is_as_it_was(page: Page) -> None:
    await page.evaluate("window.later = []; window.setTimeout = act => window.later.push(act)")
    for _ in range(2):
        asked = await page.evaluate("window.later.length")
        await page.evaluate(f"{COPY_SETTINGS}.click()")
        await page.evaluate(f"(async () => {{ while (window.later.length === {asked}) await null; }})()")
    await page.evaluate("window.later.forEach(act => act())")
    assert await page.evaluate(f"!!{COPY_SETTINGS}.querySelector('svg')")


async def test_texts_are_copied_over_plain_http_too(page: Page) -> None:
    """There, a page has no clipboard; a selection can be copied still, also out of a dialog."""
    await page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', { value: undefined }); window.copied = [];"
        " addEventListener('copy', event => window.copied.push(event.target.value))"
    )
    await page.press("ArrowRight")  # a browser copies only for somebody who did something
    await page.evaluate(f"{COPY_SETTINGS}.click()")
    await page.press("s")
    await page.evaluate("document.querySelector('dialog .row button').click()")
    settings, link = await page.evaluate("window.copied")
    assert "seed 43" in settings
    assert link == await page.evaluate("location.href")


async def test_an_image_is_copied_from_a_page_that_is_a_file(page: Page) -> None:
    """A browser does not let such a page read files beside it: it copies the preview that it holds, and says so."""
    await page.evaluate(
        "navigator.clipboard.write = async items => { window.copied = await items[0].getType('image/png') }"
    )
    copy = "[...document.querySelectorAll('.actions button')].find(one => one.innerText.includes('image'))"
    await page.evaluate(f"window.pressed = {copy}, window.pressed.click()")
    await page.until("window.pressed.innerText === 'copied the preview'")
    assert await page.evaluate("window.copied.size") > 0


async def test_the_keys_of_the_findings_work_at_once(browser: Browser, tmp_path: Path) -> None:
    tab = await browser.page()
    plan = Plan(axes={"denoise_strength": [0.2, 0.4, 0.6], "variation": ["a", "b"], "seed": [1, 2, 3, 4]})
    await tab.open(await report_of(tmp_path / "cups", plan, "structure_coarse", "ssim", "delta_e"))
    await tab.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }")
    await tab.press("i")
    await tab.until("document.querySelectorAll('sweep-findings li').length > 1")
    await tab.press("j", "y")
    second = "document.querySelectorAll('sweep-findings li h2')[1].innerText"
    assert (await tab.evaluate("window.copied")).startswith(await tab.evaluate(second))
    await tab.press("Enter")
    assert await tab.evaluate("document.querySelector('#explorer').dataset.panel") == "grid"
    assert not await tab.evaluate("location.hash.includes('full')")
    assert tab.problems == []


async def test_the_images_of_a_finding_follow_axes_in_step(browser: Browser, tmp_path: Path) -> None:
    axes: dict[str, Sequence[Scalar]] = {"denoise_strength": [0.2, 0.6], "negative": ["x", "y"], "seed": [1, 2, 3]}
    apart = frozenset(range(3, 9))  # 0.2 with y, 0.6 with x
    tab = await browser.page()
    await tab.open(await report_of(tmp_path / "cups", Plan(axes=axes, pending=apart), "structure_coarse"))
    await tab.press("i")
    await tab.until("document.querySelectorAll('sweep-findings li').length > 0")
    names = "[...document.querySelector('.finding-images').querySelectorAll('.example-name')].map(one => one.innerText)"
    assert await tab.evaluate(names) == ["0.2", "0.6"]


LANDSCAPE = {"width": 844, "height": 390, "phone": True}


async def test_a_blind_choice_fits_a_phone_held_sideways(browser: Browser, results: Path) -> None:
    for look in (LANDSCAPE, {"width": 390, "height": 844, "phone": True}):
        tab = await browser.page(**look)  # type: ignore[arg-type]
        await tab.open((results / "report.html").as_uri())
        await tab.press("v")
        await tab.until("document.querySelector('.pair img')?.naturalWidth > 0")
        edges = "(name) => (({ top, bottom }) => [top, bottom])(document.querySelector(name).getBoundingClientRect())"
        (top, bottom), (answers, end) = await tab.evaluate(f"['.pair img', '.answers'].map({edges})")
        assert bottom - top > 100
        assert bottom <= answers
        assert end <= look["height"]


async def test_nothing_is_cut_off_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    axes: dict[str, Sequence[Scalar]] = {"variation": ["a", "b", "c"], "cfg_scale": [4, 7], "seed": [1, 2]}
    address = await report_of(tmp_path / "a folder with a rather long name", Plan(axes=axes, source=False), "sharpness")
    tab = await browser.page(width=390, height=844, phone=True)
    right = "Math.max(...[...document.querySelectorAll('{}')].map(one => one.getBoundingClientRect().right))"
    await tab.open(address)
    assert await tab.evaluate(right.format(".distance-line *")) <= 390
    await tab.press("s")
    assert await tab.evaluate("(pre => pre.scrollWidth <= pre.clientWidth)(document.querySelector('dialog pre'))")
    await tab.press("Escape", "f")
    assert await tab.evaluate(right.format(".full .made dd")) <= 390


async def test_marks_are_seen_with_forced_colours(browser: Browser, tmp_path: Path) -> None:
    tab = await browser.page()
    plan = Plan(axes={"denoise_strength": [0.2, 0.4, 0.6], "seed": [1, 2, 3]})
    await tab.open(await report_of(tmp_path / "cups", plan, "structure_coarse"))
    await tab.send("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
    canvas = await tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert await tab.evaluate("getComputedStyle(document.querySelector('i.mark.held')).backgroundColor") != canvas
    await tab.press("c")
    pressed = "document.querySelector('.tool[aria-pressed=true]')"
    assert await tab.evaluate(f"getComputedStyle({pressed}).backgroundColor") != canvas

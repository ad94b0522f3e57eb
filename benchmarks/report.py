"""How fast the report opens and answers in a real Chromium: `python -m benchmarks.report` prints a table.

2,000 images inside the page, and 100,000 cells beside it; images are painted noise of 256 px, made for the purpose.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.figures import Figure
from sweep.record import Counts
from sweep.report import AxisColumn, ReportData, build_page_json, describe_page
from sweep.report import report_writer as explorer
from tests.support.chromium import Page, chromium, find_chromium

_METRICS = 15
_FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_PAINTED = """
    (() => {
      const images = [...document.querySelectorAll('.cell img.a')];
      return images.length > 20 && images.every(image => image.complete && image.naturalWidth > 0)
        ? performance.now() : 0;
    })()
"""


def material(folder: Path, shape: tuple[int, int, int], images: int) -> ReportData:
    """Write a results folder of strength × prompt × seed points, whose images repeat after `images` of them."""
    strengths, prompts, seeds = shape
    count = strengths * prompts * seeds
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(7)
    hashes: list[str] = []
    for number in range(images):
        small = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        path = folder / "images" / f"{number:05}.png"
        Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(path, compress_level=1)
        hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
    strength, prompt, seed = (grid.ravel() for grid in np.indices(shape))
    index = np.arange(count)
    frame = pd.DataFrame(
        {
            "index": index,
            "key": [hashlib.blake2b(b"%d" % number, digest_size=16).hexdigest() for number in index],
            "denoise_strength": strength / max(1, strengths - 1),
            "variation": [f"prompt number {number}" for number in prompt],
            "seed": seed + 42,
            "prompt": [f"a cup of coffee, prompt number {number}" for number in prompt],
            "status": "completed",
            "error": None,
            "server": "gpu1",
            "image_path": [f"images/{number % images:05}.png" for number in index],
            "sha256": [hashes[number % images] for number in index],
            "width": 256,
            "height": 256,
            "render_seconds": random.gamma(4, 0.5, count),
        }
        | {f"metric_{number}": 1 - strength / strengths + random.normal(0, 0.1, count) for number in range(_METRICS)}
    )
    kinds = (("denoise_strength", "number"), ("variation", "text"), ("seed", "seed"))
    return ReportData(
        folder=folder,
        name=f"{count} points",
        description="painted noise",
        frame=frame,
        axes=tuple(AxisColumn(name, kind, name) for name, kind in kinds),
        counts=Counts(points=count, completed=count),
    )


async def in_browser(page: Page, address: str) -> dict[str, float]:
    """Milliseconds until the page is there, and for what a reader does then."""
    await page.send("Page.navigate", url=address)
    await page.until("document.readyState !== 'loading' || performance.getEntriesByName('sweep-ready').length > 0")
    await page.until(f"({_PAINTED}) > 0")
    await page.until("performance.getEntriesByName('first-contentful-paint').length > 0")
    figures = {
        "first paint": await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        "ready": await page.evaluate("performance.getEntriesByName('sweep-ready')[0].startTime"),
        "images painted": await page.evaluate(_PAINTED),
        "DOM nodes": await page.evaluate("document.querySelectorAll('*').length"),
        "heap MB": await page.evaluate("performance.memory.usedJSHeapSize / 1e6"),
    }
    slide = (
        "(async () => { const input = document.querySelector('.slider input'); const times = [];"
        " for (let at = 1; at < 9; at += 1) { const start = performance.now(); input.value = at % 3;"
        " input.dispatchEvent(new Event('input')); await Promise.resolve(); document.body.offsetHeight;"
        f" times.push(performance.now() - start); await {_FRAME}; }}"
        " return times.sort((a, b) => a - b)[4]; })()"
    )
    scroll = (
        "(async () => { const area = document.querySelector('sweep-grid .scroll'); const times = [];"
        " for (let at = 1; at < 12; at += 1) { const start = performance.now();"
        " area.scrollTop = (at * 7919) % area.scrollHeight;"
        f" await {_FRAME}; times.push(performance.now() - start); }}"
        " return times.sort((a, b) => a - b)[5]; })()"
    )
    figures["slider repaints in"] = await page.evaluate(slide)
    figures["a jump is painted in"] = await page.evaluate(scroll)
    figures["DOM nodes after"] = await page.evaluate("document.querySelectorAll('*').length")
    return figures


def measure() -> list[Figure]:
    """Print tables of its own: there are no goals here."""
    asyncio.run(main())
    return []


async def main() -> None:
    """Print the tables, or a line where there is no browser."""
    executable = find_chromium()
    if executable is None:
        print("report: left out, as no Chromium was found ($SWEEP_CHROMIUM names one)")
        return
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape, images in (("2,000", (10, 20, 10), 2000), ("100,000", (100, 100, 10), 400)):
            folder = Path(scratch) / name.replace(",", "")
            made = material(folder, shape, images)
            target = folder / "report.html"
            embed = 2000 if images == 2000 else 0
            start = time.perf_counter()
            shown, embedded = explorer.link_images(made, target, embedded=images <= embed, beside=True)
            thumbs_took = time.perf_counter() - start
            start = time.perf_counter()
            explorer.write_page(target, build_page_json(made, shown), describe_page(made), embedded)
            took = time.perf_counter() - start
            print(f"{name} cells: page {target.stat().st_size / 1e6:.1f} MB written in {took:.2f} s", end="")
            print(f" (and {thumbs_took:.1f} s for {images} thumbnails)")
            async with chromium(executable) as browser:
                page = await browser.page()
                figures = await in_browser(page, target.as_uri())
                for what, value in figures.items():
                    print(f"  {what:22} {value:8.0f}{'' if what.startswith(('DOM', 'heap')) else ' ms'}")
                if page.problems:
                    print("  problems:", *page.problems)


if __name__ == "__main__":
    asyncio.run(main())

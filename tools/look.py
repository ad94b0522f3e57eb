"""Takes pictures of a page in a real Chromium: `python -m tools.look REPORT.html FOLDER [HASH …] [--keys "h b"]`.

Each view is taken at 1280, 1920, 768 and 390 px, light and dark, once in grey and once as printed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
from pathlib import Path

from tests.support.chromium import Page, chromium, find_chromium

_SIZES = ((1280, 900), (1920, 1080), (768, 1024), (390, 844))
_LOOKS = ("light", "dark", "grey", "print", "noscript")


async def take(page: Page, address: str, keys: list[str], target: Path, size: tuple[int, int], look: str) -> None:
    """Take one picture; print what went wrong in the page, and whether it scrolls sideways."""
    width, height = size
    await page.look(width=width, height=height, dark=look == "dark", phone=width < 500)
    await page.send("Emulation.setScriptExecutionDisabled", value=look == "noscript")
    if look == "noscript":
        await page.send("Page.navigate", url=address)
        await asyncio.sleep(1)
    else:
        await page.open(address)
        await page.press(*keys)
        await page.evaluate("new Promise(done => setTimeout(done, 700))")
    if look == "grey":
        await page.evaluate("document.documentElement.style.filter = 'grayscale(1)'")
    if look == "print":
        answer = await page.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        target.with_suffix(".pdf").write_bytes(base64.b64decode(answer["data"]))
        return
    wide = 0 if look == "noscript" else await page.evaluate("document.documentElement.scrollWidth")
    await page.screenshot(target.with_suffix(".png"), whole=look == "noscript")
    print(target.name, "SIDEWAYS" if wide > width else "", *page.problems)
    page.problems.clear()


def read_arguments() -> argparse.Namespace:
    """Read what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="a file or an http address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("hashes", nargs="*", default=[""])
    parser.add_argument("--keys", default="", help="keys to press, separated by spaces; SPACE is the space bar")
    parser.add_argument("--widths", default="1280,1920,768,390")
    parser.add_argument("--looks", default="light")
    parser.add_argument("--name", default="")
    asked = parser.parse_args()
    asked.address = asked.address if asked.address.startswith("http") else Path(asked.address).resolve().as_uri()
    asked.folder.mkdir(parents=True, exist_ok=True)
    return asked


async def main(asked: argparse.Namespace) -> None:
    """Take the pictures asked for."""
    keys = [" " if key == "SPACE" else key for key in asked.keys.split()]
    async with chromium(find_chromium() or "chromium") as browser:
        page = await browser.page()
        for number, part in enumerate(asked.hashes):
            for size in (size for size in _SIZES if str(size[0]) in asked.widths.split(",")):
                for look in asked.looks.split(","):
                    assert look in _LOOKS, look
                    name = f"{asked.name or 'page'}{number or ''}-{size[0]}-{look}"
                    await take(
                        page,
                        f"{asked.address}#{part}" if part else asked.address,
                        keys,
                        asked.folder / name,
                        size,
                        look,
                    )


if __name__ == "__main__":
    asyncio.run(main(read_arguments()))

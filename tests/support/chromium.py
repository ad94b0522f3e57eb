"""A real Chromium, driven over its DevTools protocol: just what the browser tests need, without a dependency."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
    *("--disable-default-apps", "--disable-extensions", "--force-color-profile=srgb"),
)
_KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Enter": 13,
    "Escape": 27,
    "Tab": 9,
    " ": 32,
    "Home": 36,
    "End": 35,
}


def find_chromium() -> str | None:
    """The browser to drive: $SWEEP_CHROMIUM, else the first found on the path."""
    named = os.environ.get("SWEEP_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return named or next((found for name in names if (found := shutil.which(name))), None)


class Page:
    """One tab. `problems` gathers console errors, exceptions and policy violations; `requests` every address asked."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._loaded = asyncio.Event()

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.send(method, params, self._session)

    def take(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "assert"}:
            self.problems.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def open(self, url: str) -> None:
        """Goes to `url` and waits until it is loaded and its script is ready."""
        for address in ("about:blank", url):  # by way of nothing: a new hash alone would not load the page again
            self._loaded.clear()
            await self.send("Page.navigate", url=address)
            await asyncio.wait_for(self._loaded.wait(), 30)
        await self.until("performance.getEntriesByName('sweep-ready').length > 0 || !!document.querySelector('.error')")
        await self.settle()

    async def close(self) -> None:
        await self.send("Page.close")

    async def evaluate(self, expression: str) -> Any:
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"].get("exception", {}).get("description", expression))
        return answer["result"].get("value")

    async def until(self, expression: str, *, seconds: int = 30) -> None:
        """Waits, frame by frame in the page itself, until the expression is true; fails after `seconds`."""
        await self.evaluate(
            f"new Promise((yes, no) => {{ const end = performance.now() + {seconds}000; const look = () =>"
            f" ({expression}) ? yes(true) : performance.now() > end"
            f" ? no(new Error('never: ' + {expression!r})) : setTimeout(look, 15); look(); }})"
        )

    async def settle(self) -> None:
        """Two frames: whatever was asked for is painted."""
        await self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    async def press(self, *keys: str, modifiers: int = 0) -> None:
        """Keys, by their names as the page hears them. `modifiers`: 2 Ctrl, 8 Shift."""
        for key in keys:
            code = _KEYS.get(key, ord(key.upper()) if key.isalnum() and len(key) == 1 else 0)
            event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            await self.send("Input.dispatchKeyEvent", type="keyDown", **event, **text)
            await self.send("Input.dispatchKeyEvent", type="keyUp", **event)
        await self.settle()

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)
        await self.settle()

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        (x0, y0), (x1, y1) = start, end
        await self._mouse("mouseMoved", x0, y0)
        await self._mouse("mousePressed", x0, y0, button="left", buttons=1, clickCount=1)
        for part in (0.25, 0.5, 0.75, 1.0):
            await self._mouse("mouseMoved", x0 + (x1 - x0) * part, y0 + (y1 - y0) * part, button="left", buttons=1)
        await self._mouse("mouseReleased", x1, y1, button="left", clickCount=1)
        await self.settle()

    async def click(self, x: float, y: float) -> None:
        await self._mouse("mouseMoved", x, y)
        await self._mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        await self._mouse("mouseReleased", x, y, button="left", clickCount=1)
        await self.settle()

    async def hover(self, x: float, y: float) -> None:
        await self._mouse("mouseMoved", x, y)
        await self.settle()

    async def wheel(self, x: float, y: float, delta: float, modifiers: int = 0) -> None:
        await self._mouse("mouseWheel", x, y, deltaX=0, deltaY=delta, modifiers=modifiers)
        await self.settle()

    async def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        await self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def look(self, *, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, target: Path, *, whole: bool = False) -> None:
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(target.write_bytes, base64.b64decode(answer["data"]))


class Browser:
    """A running Chromium and the one connection to it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._hearing = asyncio.create_task(self._hear())

    async def page(self, *, width: int = 1280, height: int = 800, dark: bool = False, phone: bool = False) -> Page:
        context = (await self.send("Target.createBrowserContext", {}))["browserContextId"]
        target = await self.send("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attached = await self.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page.send(f"{domain}.enable")
        await page.look(width=width, height=height, dark=dark, phone=phone)
        return page

    async def send(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        await self._socket.send_json(message if session is None else {**message, "sessionId": session})
        return await asyncio.wait_for(answer, 40)

    async def _hear(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            said = message.json()
            if "id" in said:
                answer = self._answers.pop(said["id"])
                if answer.done():
                    continue
                if "error" in said:
                    answer.set_exception(AssertionError(said["error"]["message"]))
                else:
                    answer.set_result(said["result"])
            elif page := self._pages.get(said.get("sessionId", "")):
                page.take(said["method"], said["params"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.send("Browser.close", {})
        self._hearing.cancel()


@asynccontextmanager
async def chromium(executable: str) -> AsyncIterator[Browser]:
    """A fresh headless Chromium with a profile of its own, gone at the end of the block."""
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="sweep-chromium-")
    process = await asyncio.create_subprocess_exec(
        executable, *_FLAGS, f"--user-data-dir={folder}", stdout=-3, stderr=asyncio.subprocess.PIPE
    )
    try:
        address = await asyncio.wait_for(_address(process), 30)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=0) as socket,
            Browser(socket) as browser,
        ):
            yield browser
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if b"DevTools listening on " in line:
            return line.decode().rsplit(" ", 1)[-1].strip()
    raise AssertionError("Chromium ended before it listened.")

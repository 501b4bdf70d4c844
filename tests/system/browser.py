"""Chromium without a window, driven over the pipe of its DevTools protocol: a browser that is not ours opens our pages."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

_OPTIONS = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars --remote-debugging-pipe"
_PATIENCE = 60.0
_CONTRAST = """(() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return Array.from(paint.getImageData(0, 0, 1, 1).data); };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (one) => { for (; one; one = one.parentElement) {
    const colour = rgba(getComputedStyle(one).backgroundColor); if (colour[3] === 255) return colour; } return [255, 255, 255]; };
  const low = [];
  for (const one of document.body.querySelectorAll("*")) {
    if (!Array.from(one.childNodes).some((node) => node.nodeType === 3 && node.data.trim()) || !one.checkVisibility()) continue;
    const [a, b] = [light(rgba(getComputedStyle(one).color)), light(ground(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${one.tagName} ${one.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return low;
})()"""
"""Text with less contrast than WCAG 2.2, 1.4.3 asks for."""


class Browser:
    """One page in it. ``troubles``: what it complained of, a breach of the content security policy among it."""

    def __init__(self, folder: Path) -> None:
        self.troubles: list[str] = []
        theirs, self._out = os.pipe()
        self._in, their_end = os.pipe()
        # as 3 and 4 it wants them; from 10 on they cannot be in each other's way
        passed = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (theirs, their_end)]
        os.close(theirs)
        os.close(their_end)
        command = ["bash", "-c", 'in=$1 out=$2; shift 2; exec "$@" 3<&"$in" 4>&"$out"', "bash", *map(str, passed)]
        command += ["chromium", *_OPTIONS.split(), f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=passed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        for descriptor in passed:
            os.close(descriptor)
        self._number = 0
        self._read = b""
        self._events: list[str] = []
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        """End it."""
        self._session = ""
        self._call("Browser.close")
        self._process.wait(_PATIENCE)
        os.close(self._in)
        os.close(self._out)

    def open(self, url: str, *, width: int = 1000, script: bool = True, dark: bool = False) -> None:
        """Go there, in a window of that many CSS pixels, and wait until the page is loaded."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=1200, deviceScaleFactor=1, mobile=width < 600)
        self._call("Emulation.setScriptExecutionDisabled", value=not script)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self._call("Page.navigate", url=url)
        self._await("Page.loadEventFired")

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in an input."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def press(self, selector: str) -> None:
        """Press a button or follow a link, and wait for the page that comes."""
        self._events.clear()
        self.ask(f"document.querySelector({json.dumps(selector)}).click()")
        self._await("Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str) -> list[str]:
        """What every element says that the selector finds."""
        found = self.ask(f"Array.from(document.querySelectorAll({json.dumps(selector)}), (one) => one.innerText)")
        return [" ".join(text.split()) for text in found]

    def low_contrast(self) -> list[str]:
        """Text that is hard to read against its ground."""
        found: list[str] = self.ask(_CONTRAST)
        return found

    def overflows(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(self.ask("document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def picture(self, file: Path) -> None:
        """All of the page as a PNG."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _await(self, event: str) -> None:
        while event not in self._events:
            self._next()

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while b"\0" not in self._read:
            if not select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium said nothing for {_PATIENCE} s")
            data = os.read(self._in, 1 << 16)
            assert data, "Chromium is gone"
            self._read += data
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        if "method" in found:
            self._events.append(found["method"])
            if found["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.troubles.append(json.dumps(found["params"]))
        return found

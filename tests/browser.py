"""A real browser for tests of pages: Chromium without window and network, asked over a pipe."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE, DESKTOP = (390, 844), (1300, 900)
SCROLLED = (
    "[...document.querySelectorAll('main *')].filter((part) => "
    "part.scrollWidth > part.clientWidth + 1 && "
    "['auto', 'scroll'].includes(getComputedStyle(part).overflowX))"
)
"""The parts of a page that are wider than their room and scroll sideways, as JavaScript."""

FOCUSED = """
(() => {
  const part = document.activeElement;
  if (!part || part === document.body || window.reached.has(part)) return null;
  window.reached.add(part);
  const style = getComputedStyle(part);
  return {
    name: part.ariaLabel || part.textContent.trim(),
    ring: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    seen: part.checkVisibility({opacityProperty: true}),
    scrolls: part.scrollWidth > part.clientWidth + 1,
  };
})()
"""
"""What the keyboard is at, as JavaScript; nothing where it has left the page or begins anew."""

WITHOUT_NETWORK = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def opened(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A page as a browser without a network shows it: what it drew, and what it had to say."""
    command = [
        CHROMIUM or "chromium",
        *WITHOUT_NETWORK,
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=10000",
        *options,
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


class Browser:
    """One tab, driven by the DevTools protocol over the pipes that Chromium was started with.

    Args:
        asked: File descriptor that commands are written to.
        answered: File descriptor that answers and events are read from.
    """

    def __init__(self, asked: int, answered: int) -> None:
        self._asked, self._answered = asked, answered
        self._numbers = itertools.count(1)
        self._rest, self._session = b"", ""
        self.complaints: list[str] = []
        targets = self("Target.getTargets")["targetInfos"]
        (tab,) = [target["targetId"] for target in targets if target["type"] == "page"]
        attached = self("Target.attachToTarget", targetId=tab, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: object) -> dict:
        """Sends one command and waits for its answer."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._asked, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            piece = os.read(self._answered, 1 << 16)
            assert piece, "the browser has ended"
            self._rest += piece
        first, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(first)
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(message["params"]))
        return message

    def open(
        self, page: Path, size: tuple[int, int], *, dark: bool = False, pictures: bool = True
    ) -> None:
        """Opens a page at a size in CSS pixels and waits until its pictures, if any, are drawn."""
        width, height = size
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Page.navigate", url=page.as_uri())
        self.wait_for("document.readyState === 'complete'")
        if not pictures:
            return
        self.wait_for("!!window.Plotly")
        self.wait_for(
            "[...document.querySelectorAll('.plotly-graph-div')].every("
            "(plot) => plot.querySelector('.main-svg'))"
        )

    def wait_for(self, condition: str, seconds: float = 60.0) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.ask(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def ask(self, expression: str) -> object:
        """The value of a JavaScript expression, by value."""
        answer = self(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Presses a key, as somebody without a mouse does."""
        for kind in ("rawKeyDown", "keyUp"):
            self(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
            )

    def photograph(self, path: Path) -> None:
        """The whole page as a PNG, for whoever wants to look."""
        shot = self("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def tabbed(self, most: int = 300) -> list[dict]:
        """Where the key Tab leads on a page, stop by stop: name, ring, what is seen and scrolls."""
        self.ask("void (window.reached = new Set())")
        stops = []
        for _ in range(most):
            self.press("Tab", 9)
            stop = self.ask(FOCUSED)
            if stop is None:
                break
            stops.append(stop)
        return stops


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A fresh browser.

    Args:
        profile: A folder for what it keeps.
    """
    (theirs_in, asked), (answered, theirs_out) = os.pipe(), os.pipe()

    # Chromium reads commands from descriptor 3 and answers on 4; a shell puts the pipes there.
    given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
    process = subprocess.Popen(
        [
            *("bash", "-c", 'exec "$@" 3<&{} 4>&{}'.format(*given), "bash"),
            CHROMIUM or "chromium",
            *WITHOUT_NETWORK,
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ],
        pass_fds=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (theirs_in, theirs_out, *given):
        os.close(end)
    try:
        yield Browser(asked, answered)
    finally:
        process.terminate()
        process.wait(timeout=60)
        os.close(asked)
        os.close(answered)

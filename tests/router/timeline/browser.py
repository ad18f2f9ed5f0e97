"""A real, headless Chromium, driven over its DevTools pipe: no other package, no port."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, poll
from time import monotonic
from typing import Any, Self

PATIENCE = 60.0  # seconds for one answer of a loaded machine's browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


class NoBrowser(Exception):
    """There is no Chromium here."""


def find() -> str:
    """The path of a Chromium: what CHROMIUM names, else the first on the PATH. Raises `NoBrowser`."""
    given = os.environ.get("CHROMIUM")
    found = shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise NoBrowser("no Chromium is found: install Debian's chromium package, or set CHROMIUM to its path.")
    return found


class Browser:
    """One tab. `problems` are console errors and uncaught exceptions, `requests` the URLs it asked for."""

    def __init__(self, write: int, read: int) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._write, self._read = write, read
        self._answers = poll()
        self._answers.register(read, POLLIN)
        self._buffer = b""
        self._count = 0
        self._loaded = 0
        self._session: str | None = None

    def attach(self) -> Self:
        """Open the tab and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def open(
        self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> None:
        """Show a file and wait until it is loaded."""
        self.problems.clear()
        self.requests.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        before = self._loaded
        self.call("Page.navigate", url=path.as_uri())
        self._wait(lambda: self._loaded > before)

    def ask(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression. Raises `AssertionError` when it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.call("Page.captureScreenshot", clip={"x": 0, "y": 0, "width": 1, "height": 1, "scale": 1})

    def mouse(self, x: float, y: float, *, click: bool = False) -> None:
        """Move there, and click."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}
        more = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=codes[key], **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=codes[key])

    def screenshot(self, path: Path) -> None:
        """A PNG of the whole page."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(b64decode(image["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its answer. Raises `AssertionError` on an error, `TimeoutError` on silence."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._wait(lambda: bool(answers), number, answers)
        assert "error" not in answers[0], (method, answers[0])
        result: dict[str, Any] = answers[0]["result"]
        return result

    def _wait(self, until: Callable[[], bool], number: int = 0, answers: list[dict[str, Any]] | None = None) -> None:
        limit = monotonic() + PATIENCE
        while not until():
            while b"\0" not in self._buffer:
                if not self._answers.poll(max(0.0, limit - monotonic()) * 1000):
                    raise TimeoutError(f"Chromium said nothing for {PATIENCE:g} s.")
                chunk = os.read(self._read, 1 << 20)
                assert chunk, "Chromium closed its pipe."
                self._buffer += chunk
            line, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(line)
            if answers is not None and message.get("id") == number:
                answers.append(message)
            else:
                self._hear(message.get("method", ""), message.get("params", {}))

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.problems.append(f"{method}: {params}")
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(str(params["args"]))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A running Chromium with a profile of its own, ended at the end. Raises `NoBrowser`."""
    to_read, write = os.pipe()
    read, to_write = os.pipe()
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update")
    # Chromium reads commands from descriptor 3 and writes to 4; a shell puts them there in the child alone.
    shell = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
    command = ["bash", "-c", shell, find(), *flags, *quiet, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(to_read, to_write), stdout=log, stderr=log)
    os.close(to_read)
    os.close(to_write)
    tab = Browser(write, read)
    try:
        yield tab.attach()
        tab._session = None
        tab.call("Browser.close")
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)

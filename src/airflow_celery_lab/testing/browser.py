"""A headless Chromium, driven by its DevTools protocol: for tests of pages, and for pictures of them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from airflow_celery_lab.errors import MissingProgramError, NotReadyError
from airflow_celery_lab.wait import wait_until

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

#: Names of the program in distributions.
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Seconds for one answer of the browser, for its start on a busy machine, and for its end.
ANSWER, START, END = 30.0, 60.0, 10.0
#: All words of a page, short enough for a message.
TEXT = "document.body.innerText.slice(0, 2000)"
#: Nothing that calls home, asks, or differs from one start to the next.
OPTIONS = (
    "--headless=new",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def program() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class RefusedError(NotReadyError):
    """The browser does not do what a command says."""


class Browser:
    """One page in a browser. What goes wrong in it, and what it asks for, is kept."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.errors: list[str] = []  #: of scripts, and what the console has as errors
        self.requests: list[str] = []  #: addresses of what a page does not hold itself
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to one command of the protocol.

        Raises:
            RefusedError: the browser does not do that.
            NotReadyError: the browser does not answer within ANSWER seconds.

        """
        number = self._send(method, **parameters)
        while True:
            try:
                message = json.loads(self._connection.recv(ANSWER))
            except TimeoutError as error:
                raise NotReadyError(f"the browser does not answer {method}") from error
            self._note(message)
            if message.get("id") == number:
                if "error" in message:
                    raise RefusedError(f"the browser refuses {method}: {message['error']['message']}")
                return dict(message["result"])

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Make the window so large, in pixels, and let the user like it light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, address: str, ready: str) -> None:
        """Open a page, and wait until the JavaScript expression `ready` holds in it.

        Raises:
            NotReadyError: it does not.

        """
        self.call("Page.navigate", url=address)
        self.wait(ready)

    def wait(self, ready: str) -> None:
        """Wait until the JavaScript expression `ready` holds in the page.

        Raises:
            NotReadyError: it does not; it says what the page shows.

        """
        wait_until(
            lambda: None if self.evaluate(ready) else f"its errors are {self.errors}, and it shows {self.evaluate(TEXT)!r}",
            ANSWER,
            f"a page in which {ready}",
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; of a promise what it comes to.

        None where it cannot be evaluated, and where the browser leaves the page meanwhile.
        """
        try:
            answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        except RefusedError:
            return None
        return answer["result"].get("value")

    def write(self, selector: str, text: str) -> None:
        """Write into the field that a CSS selector finds."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def click(self, element: str) -> None:
        """Click with the mouse in the middle of the element that a JavaScript expression names, when it is there."""
        self.wait(f"!!{element}")
        box = self.evaluate(f"(one => (one.scrollIntoView({{block: 'nearest'}}), one.getBoundingClientRect().toJSON()))({element})")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.point(x, y)
        for half in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=half, x=x, y=y, button="left", clickCount=1)

    def point(self, x: float, y: float) -> None:
        """Move the mouse there, in pixels from the window's upper left."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, x: float, y: float, to: float) -> None:
        """Press the mouse there, and let go of it at `to` in the same height."""
        button = {"button": "left", "buttons": 1, "clickCount": 1}
        self.point(x, y)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **button)
        for part in (0.3, 0.6, 1.0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + (to - x) * part, y=y, **button)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=to, y=y, **button)

    def photograph(self, picture: Path) -> None:
        """Write what the window shows as a PNG."""
        picture.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def _send(self, method: str, **parameters: Any) -> int:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        return self._number

    def _note(self, message: dict[str, Any]) -> None:
        given = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = given["exceptionDetails"]
                self.errors.append(str(details.get("exception", {}).get("description") or details["text"]))
            case "Runtime.consoleAPICalled" if given["type"] == "error":
                self.errors.append(" ".join(str(item.get("value", item.get("description"))) for item in given["args"]))
            case "Log.entryAdded" if given["entry"]["level"] == "error":
                self.errors.append(f"{given['entry']['text']} {given['entry'].get('url', '')}".strip())
            case "Page.javascriptDialogOpening":  # The page does nothing until somebody presses its button.
                self.errors.append(str(given["message"]))
                self._send("Page.handleJavaScriptDialog", accept=True)
            case "Network.requestWillBeSent" if not given["request"]["url"].startswith("data:"):
                self.requests.append(str(given["request"]["url"]))


@contextmanager
def browser(*, width: int = 1200, height: int = 800, dark: bool = False) -> Iterator[Browser]:
    """Run a browser that is gone after the block, with all that it has written.

    Raises:
        MissingProgramError: there is no Chromium on this machine.
        NotReadyError: it does not start.

    """
    from websockets.sync.client import connect

    path = program()
    if path is None:
        raise MissingProgramError("there is no Chromium on this machine; install it (Debian: sudo apt-get install chromium).")
    folder = Path(tempfile.mkdtemp(prefix="lab-browser-"))
    # Chromium refuses to be root with its sandbox.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    words = [path, *OPTIONS, *sandbox, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(process, folder / "DevToolsActivePort"), max_size=None, proxy=None, ping_interval=None) as connection:
            page = Browser(connection)
            page.look(width, height, dark=dark)
            yield page
    finally:
        _end(process)
        shutil.rmtree(folder)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the browser with its helpers, which write to its folder for a moment longer than it does."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=END)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left)
    process.wait()


def _address(process: subprocess.Popen[bytes], file: Path) -> str:
    """Return where the browser's page listens, when it does."""
    found: list[str] = []

    def probe() -> str | None:
        if process.poll() is not None:
            raise NotReadyError(f"the browser ended with status {process.returncode}.")
        with suppress(OSError, httpx.TransportError, IndexError):
            port = file.read_text().splitlines()[0]
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            found.extend(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        return None if found else "it shows no page"

    wait_until(probe, START, "the browser")
    return found[0]

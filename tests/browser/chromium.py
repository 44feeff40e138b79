"""A headless Chromium, driven over its own protocol (CDP) by two pipes: no library, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from tests.lab import WAIT

FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check"),
    # In a container there is no sandbox to be had, and only our own page is opened.
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-extensions", "--mute-audio", "--force-color-profile=srgb"),
)
# What DevTools calls a key: code, and the text that it types.
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Space": (32, " "), "ArrowRight": (39, "")}
CONTROL = 2


class Failure(AssertionError):
    """What the page threw, or the browser refused."""


class Chromium:
    """The process; ``close`` ends it."""

    def __init__(self, binary: str) -> None:
        self._home = tempfile.mkdtemp(prefix="proxy-browser-")
        to_browser, self._write = os.pipe()
        read, from_browser = os.pipe()
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}', binary),
                *(*FLAGS, f"--user-data-dir={self._home}", "about:blank"),
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": self._home, "TZ": "UTC", "LANG": "C.UTF-8"},
        )
        os.close(to_browser)
        os.close(from_browser)
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        self._last = 0
        self._reader = threading.Thread(target=self._read, args=(read,), daemon=True)
        self._reader.start()

    def _read(self, descriptor: int) -> None:
        """Messages end with a NUL."""
        with os.fdopen(descriptor, "rb", buffering=0) as pipe:
            left = b""
            while chunk := pipe.read(1 << 16):
                *messages, left = (left + chunk).split(b"\0")
                for message in map(json.loads, messages):
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]].put(message)
        elif listener := self._listeners.get(message.get("sessionId", "")):
            listener(message["method"], message["params"])

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._last += 1
        number = self._last
        answer = self._answers[number] = Queue()
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        try:
            told = answer.get(timeout=WAIT)
        except Empty:
            raise Failure(f"{method}: the browser does not answer") from None
        finally:
            del self._answers[number]
        if "error" in told:
            raise Failure(f"{method}: {told['error']}")
        return told["result"]

    def tab(self) -> Tab:
        """Its own storage, as in another browser."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Tab(self, attached["sessionId"], context)

    def listen(self, session: str, listener: Callable[[str, dict[str, Any]], None]) -> None:
        self._listeners[session] = listener

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(WAIT)
        os.close(self._write)
        self._reader.join(WAIT)
        shutil.rmtree(self._home, ignore_errors=True)


class Tab:
    """``complaints``: what the console has said of warnings, errors and broken policies."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self._context = context
        self.complaints: list[str] = []
        self.asked: list[str] = []
        browser.listen(session, self._heard)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def _heard(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", params)))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(str(params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(
            f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'"
        )

    def run(self, script: str) -> Any:
        """The value of an expression, which may be a promise."""
        told = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
            allowUnsafeEvalBlockedByCSP=False,
        )
        if "exceptionDetails" in told:
            thrown = told["exceptionDetails"]
            raise Failure(str(thrown.get("exception", {}).get("description", thrown["text"])))
        return told["result"].get("value")

    def until(self, condition: str, seconds: float = 20.0) -> None:
        """The page's own frames are what it looks at: whatever is shown is shown in one of them."""
        script = f"""new Promise((resolve) => {{
          const end = performance.now() + {seconds * 1_000};
          const look = () => {{
            let is = false;
            try {{ is = Boolean({condition}); }} catch {{ }}
            if (is || performance.now() > end) resolve(is);
            else setTimeout(look, 10);
          }};
          look();
        }})"""
        for _ in range(2):
            try:
                is_so = self.run(script)
                break
            except Failure as failure:
                # Another document has come meanwhile.
                if "navigat" not in str(failure) and "context" not in str(failure).lower():
                    raise
        else:
            is_so = False
        if not is_so:
            shown = self.run("document.body.innerText")
            raise Failure(f"never true: {condition}\n{self.complaints}\n{shown}")

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def press(self, key: str, *, control: bool = False) -> None:
        code, text = KEYS[key]
        name = " " if key == "Space" else key
        common = {
            "key": name,
            "code": key,
            "windowsVirtualKeyCode": code,
            "modifiers": CONTROL if control else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def size(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def prefer(self, **features: str) -> None:
        """``color_scheme="dark"``, ``reduced_motion="reduce"``."""
        listed = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value}
            for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=listed)

    def picture(self, path: Path) -> None:
        """The whole page."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

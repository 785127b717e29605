"""The app in a real browser: starts it on a study, opens Chromium, and keeps what the page
complains about."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 30_000
"""Longest wait for a text [ms]; only a failing test waits so long."""


def chromium() -> str | None:
    """The browser on this machine, else the one that Playwright installed, else None."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found:
        return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(folder: Path, *flags: str) -> Iterator[str]:
    """The address of the app on a study."""
    port = free_port()
    words = ["app", str(folder), "--port", str(port), *flags]
    child = subprocess.Popen(
        [sys.executable, "-m", "workbench.command.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_up(port, child)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(10)


def wait_until_up(port: int, child: subprocess.Popen, seconds: float = 60) -> None:
    """Wait until the server answers; fail where it ended or takes too long."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            return
        except OSError:
            assert child.poll() is None, "the app ended"
            assert time.monotonic() < end, "the app does not answer"
            time.sleep(0.02)


class Tab:
    """One page of the browser, and what went wrong on it."""

    def __init__(self, browser, address: str):
        self.address = address
        self.page = browser.new_page(viewport={"width": 1500, "height": 1400})
        self.page.set_default_timeout(WAIT)
        self.complaints: list[str] = []
        self.page.on(
            "dialog",
            lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)

    def _console(self, message) -> None:
        # Streamlit looks for its server beside a deep link first, and finds it at the root.
        if message.type == "error" and "/_stcore/" not in message.location.get("url", ""):
            self.complaints.append(f"console: {message.text}")

    def _request(self, request) -> None:
        if not request.url.startswith(
            (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        ):
            self.complaints.append(f"outside request: {request.url}")

    def open(self, path: str, text: str) -> None:
        """Go to an address of the app and wait for a text."""
        self.page.goto(f"{self.address}/{path}")
        self.see(text)

    def turn(self, title: str, text: str) -> None:
        """Choose a page in the menu and wait for a text."""
        self.page.get_by_test_id("stSidebarNav").get_by_text(title, exact=True).click()
        self.see(text)

    def see(self, text: str) -> None:
        """Wait until a text is visible."""
        self.page.get_by_text(text).filter(visible=True).first.wait_for()

    def settled(self) -> None:
        """Wait until Streamlit has finished its run."""
        self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()

    def well(self) -> None:
        """Nothing was complained about, and no traceback is shown."""
        assert self.page.get_by_test_id("stException").count() == 0, self.page.get_by_test_id(
            "stException"
        ).first.inner_text()
        assert not self.complaints, self.complaints

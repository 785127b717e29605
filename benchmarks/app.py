"""The app: from the command to the first page's text, and from a click in the menu to the next
page's text.

1. `workbench app` is started on a study in a process of its own, with Chromium already open; the
   clock stops when the first page's text is visible. Repeated, the median counts; the first start
   of a machine, which reads everything from disk, is not counted.
2. Then every page is opened from the menu, several rounds; the clock stops when the text that the
   page is for is visible. The slowest page's median counts. The first visit of each page in a
   process is counted apart.

Left out: what waits for a model (Steer's buttons), and figures still being painted beneath the
text.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAME = "app"
REACH = {"start_s": 3.0, "page_s": 1.0}
PAGES = (
    ("Features", "live features"),
    ("Steer", "Strength"),
    ("Side effects", "Damage matching"),
    ("Graph", "Every pair"),
    ("Overview", "Runs"),
)
"""Title in the menu, and a text near the end of the page."""


def main(folder: str = "", starts: int = 3, rounds: int = 5) -> dict:
    """Measures the app on `folder`, or on a study of invented numbers."""
    from playwright.sync_api import sync_playwright

    from feature_store.errors import NotFound
    from tests.helpers.browser import FLAGS, Tab, chromium, free_port
    from tests.helpers.synthetic import synthetic

    found = chromium()
    if found is None:
        raise NotFound("No Chromium on this machine. `sh scripts/chromium` installs one.")
    with tempfile.TemporaryDirectory() as beside, sync_playwright() as playwright:
        study = Path(folder) if folder else synthetic(Path(beside) / "study").folder
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        began: list[float] = []
        for number in range(starts + 1):
            port = free_port()
            start = time.perf_counter()
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "workbench.command.cli",
                    "app",
                    str(study),
                    "--port",
                    str(port),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                tab = Tab(browser, f"http://127.0.0.1:{port}")
                _reach(tab, child)
                tab.see("Value profile")
                began.append(time.perf_counter() - start)
                print(
                    f"start {number}: {began[-1]:.2f} s"
                    + (" (not counted)" if number == 0 else ""),
                    flush=True,
                )
                if number == starts:
                    first, times = _turns(tab, rounds)
                tab.well()
                tab.page.close()
            finally:
                child.terminate()
                child.wait(15)
        browser.close()
    medians = {title: statistics.median(ts) for title, ts in times.items()}
    value = {"start_s": statistics.median(began[1:]), "page_s": max(medians.values())}
    return {
        "name": NAME,
        "value": value,
        "reach": REACH,
        "holds": all(value[k] <= REACH[k] for k in REACH),
        "starts_s": began[1:],
        "pages_s": medians,
        "slowest_page_s": {title: max(ts) for title, ts in times.items()},
        "first_visit_s": first,
    }


def _reach(tab, child: subprocess.Popen) -> None:
    """Open the address as soon as somebody answers there, as an eager user would."""
    from tests.helpers.browser import wait_until_up

    wait_until_up(int(re.search(r":(\d+)$", tab.address).group(1)), child)
    tab.page.goto(tab.address)


def _turns(tab, rounds: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    first: dict[str, float] = {}
    times: dict[str, list[float]] = {title: [] for title, _ in PAGES}
    for number in range(rounds + 1):
        for title, text in PAGES:
            tab.settled()
            start = time.perf_counter()
            tab.turn(title, text)
            spent = time.perf_counter() - start
            if number:
                times[title].append(spent)
            else:
                first[title] = spent
    for title, ts in times.items():
        print(
            f"{title:14} first visit {first[title]:.2f} s, then median {statistics.median(ts):.2f}"
            f" s, slowest {max(ts):.2f} s",
            flush=True,
        )
    return first, times


if __name__ == "__main__":
    print(main(*sys.argv[1:2]))

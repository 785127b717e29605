"""Start the app on a study: Streamlit in this process, on this machine only, reporting to nobody.

1. A free port is taken: the one asked for, else the next free one, and that is said.
2. While the browser loads the front end, the pages' libraries are read, so the first page does not
   wait for them. The interpreter then changes threads often, or every file of the front end would
   wait 5 ms for an import to let go.
3. Every setting travels as a flag, so nothing depends on the working directory or on files in the
   home folder.
4. Ctrl-C ends it; the study needs no closing.
"""

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
from pathlib import Path

from feature_store.errors import BadInput, NotFound
from workbench import study_file

APP = Path(__file__).resolve().parents[2] / "app.py"
TRIED = 20
"""Ports looked at before giving up."""
STREAMLIT = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "theme.base": "light",
    "theme.primaryColor": "#1f6aa5",
    "theme.backgroundColor": "#ffffff",
    "theme.secondaryBackgroundColor": "#f5f6f8",
    "theme.textColor": "#1f2933",
    "theme.baseRadius": "8px",
    "theme.headingFontWeights": "[600, 600, 600]",
    "theme.showWidgetBorder": "true",
}
"""Streamlit's own settings, each given as a flag."""


def free(port: int) -> bool:
    """Try whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def serve(folder: Path, port: int) -> None:
    """Serve the app on a study until Ctrl-C, at `port` or the next free one."""
    if not APP.exists():
        raise NotFound(
            f"{APP} is missing. The app runs from a checkout of the repository, installed with pip"
            " install -e."
        )
    study_file.system_of(folder)
    if not 1 <= port <= 65535:
        raise BadInput(f"A port lies between 1 and 65535, got {port}.")
    taken = next((p for p in range(port, min(port + TRIED, 65536)) if free(p)), None)
    if taken is None:
        raise BadInput(
            f"Ports {port} to {port + TRIED - 1} are all taken. Choose another one with --port."
        )
    if taken != port:
        print(f"Port {port} is taken, so the app uses {taken}.", flush=True)
    print(f"The app is at http://127.0.0.1:{taken}  (Ctrl-C ends it)", flush=True)
    threading.Thread(target=_read_ahead, args=(str(folder), taken), daemon=True).start()
    from streamlit.web.cli import main

    flags = [f"--{name}={value}" for name, value in STREAMLIT.items()]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        main(
            ["run", str(APP), f"--server.port={taken}", *flags, "--", str(folder)],
            "streamlit",
            standalone_mode=False,
        )


PAGES = ("compare", "effects", "features", "graph", "overview", "plan", "review", "steer")
"""Pages whose libraries are read while the browser opens."""


def _read_ahead(folder: str, port: int) -> None:
    """Import what the pages need while the browser loads the front end."""
    while free(port):  # first the server, then what its pages need
        time.sleep(0.02)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 20)
    import plotly.graph_objects as go
    import streamlit.emojis  # noqa: F401 - a tenth of a second of regular expressions

    from workbench import views

    for page in PAGES:
        importlib.import_module(f"workbench.views.{page}")

    _ = views.open_study(folder).store
    go.Figure(go.Heatmap()).add_scatterpolar()
    sys.setswitchinterval(usual)

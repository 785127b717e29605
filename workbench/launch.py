"""Start the app on a study: Streamlit in a child process, on this machine only, reporting to nobody.

1. A free port is taken: the one asked for, else the next free one, and that is said.
2. The child reads the pages' libraries while the browser loads the front end, so the first page does not wait for them.
3. Every setting travels as a flag, so nothing depends on the working directory or on files in the home folder.
4. Ctrl-C ends the child and returns; the study needs no closing.
"""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import workbench
from feature_store.errors import BadInput, NotFound

APP = Path(workbench.__file__).resolve().parents[1] / "app.py"
TRIED = 20
"""Ports looked at before giving up."""
SETTINGS = {
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


def free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def command(folder: Path, port: int) -> list[str]:
    """The child process that serves the app."""
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    return [sys.executable, "-m", "workbench.launch", "run", str(APP), f"--server.port={port}", *flags, "--", str(folder)]


def serve(folder: Path, port: int) -> int:
    """Serve the app on a study until Ctrl-C; returns the exit code."""
    if not APP.exists():
        raise NotFound(
            f"{APP} is missing. The app runs from a checkout of the repository, installed with pip install -e."
        )
    if not 1 <= port <= 65535:
        raise BadInput(f"A port lies between 1 and 65535, got {port}.")
    taken = next((p for p in range(port, min(port + TRIED, 65536)) if free(p)), None)
    if taken is None:
        raise BadInput(f"Ports {port} to {port + TRIED - 1} are all taken. Choose another one with --port.")
    if taken != port:
        print(f"Port {port} is taken, so the app uses {taken}.", flush=True)
    print(f"The app is at http://127.0.0.1:{taken}  (Ctrl-C ends it)", flush=True)
    child = subprocess.Popen(command(folder, taken), stdout=subprocess.DEVNULL)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _child() -> None:
    from streamlit.web.cli import main

    port = next(int(flag.partition("=")[2]) for flag in sys.argv if flag.startswith("--server.port="))
    threading.Thread(target=_read_ahead, args=(port,), daemon=True).start()
    main(prog_name="streamlit")


def _read_ahead(port: int) -> None:
    while free(port):  # first the server, then what its pages need
        time.sleep(0.02)
    import plotly.graph_objects as go

    import workbench.study
    import workbench.views  # noqa: F401
    from workbench.views import effects, features, graph, overview, steer  # noqa: F401

    go.Figure(go.Heatmap()).add_scatterpolar()


if __name__ == "__main__":
    _child()

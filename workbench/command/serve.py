"""Start the app on a study: Streamlit in this process, on this machine only, reporting to nobody.

1. A free port is taken: the one asked for, else the next free one, and that is said.
2. While the browser loads the front end, the pages' libraries are read, so the first page does not
   wait for them. The interpreter then changes threads often, or every file of the front end would
   wait 5 ms for an import to let go.
3. Every setting is given to Streamlit here, so nothing depends on the working directory or on files
   in the home folder.
4. Every request, pages and WebSockets alike, must name this machine as its host, or a host that
   the user named: a page of a stranger whose name is re-bound to 127.0.0.1 is refused.
5. Ctrl-C ends it; the study needs no closing.
"""

import contextlib
import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from feature_store.errors import BadInput, NotFound, WorkbenchError
from workbench import study_file

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "::1")
"""Names of this machine, under which the app is reached."""
APP = Path(__file__).resolve().parents[2] / "app.py"
TRIED = 20
"""Ports looked at before giving up."""
STREAMLIT: dict[str, Any] = {
    "server.address": "127.0.0.1",
    "server.headless": True,
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.fileWatcherType": "none",
    "server.runOnSave": False,
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "theme.base": "light",
    "theme.primaryColor": "#1f6aa5",
    "theme.backgroundColor": "#ffffff",
    "theme.secondaryBackgroundColor": "#f5f6f8",
    "theme.textColor": "#1f2933",
    "theme.baseRadius": "8px",
    "theme.headingFontWeights": [600, 600, 600],
    "theme.showWidgetBorder": True,
}
"""Streamlit's own settings, which win over those of files and of the environment."""


class OnlyHosts:
    """What stands before Streamlit's server and answers 403 to requests for other hosts.

    A request's `Host` must be among `hosts`, whatever its port. Where a browser says from which
    page the request comes (`Origin`), the page must be the app's own: another page, of this machine
    too, neither opens the WebSocket nor makes Streamlit look up the machine's address outside.
    """

    def __init__(self, app: "ASGIApp", hosts: Collection[str]) -> None:
        """Stand before `app`; `hosts` are names without ports, IPv6 without brackets."""
        self._app = app
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request, or hand it on."""
        if scope["type"] in ("http", "websocket") and not self._is_ours(scope):
            from starlette.responses import PlainTextResponse

            line = (
                "This host is not the app's. Open the address that `workbench app` printed, or name"
                " the host with --host.\n"
            )
            await PlainTextResponse(line, 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_ours(self, scope: "Scope") -> bool:
        """Whether a request names one of our hosts, and comes from a page of the same one."""
        headers = scope["headers"]
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        pages = [value.decode("latin-1").lower() for name, value in headers if name == b"origin"]
        if len(hosts) != 1 or _name_of(hosts[0]) not in self._hosts:
            return False
        return all(page in (f"http://{hosts[0]}", f"https://{hosts[0]}") for page in pages)


def _name_of(host: str) -> str:
    """The name in a `Host` header, without port and brackets; empty where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number
    except ValueError:
        return ""
    is_plain = parts.netloc == host and parts.username is None and not host.endswith(":")
    return (parts.hostname or "").rstrip(".") if is_plain else ""


def free(port: int) -> bool:
    """Try whether nobody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def serve(folder: Path, port: int, hosts: Collection[str] = ()) -> None:
    """Serve the app on a study until Ctrl-C, at `port` or the next free one.

    `hosts` are further names by which browsers reach it, such as that of a proxy.
    """
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
    ended = threading.Event()
    reader = threading.Thread(target=_read_ahead, args=(str(folder), taken, ended))
    reader.start()
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    names = [*HOSTS, *hosts]
    app = App(APP, middleware=[Middleware(OnlyHosts, hosts=names)])
    sys.argv = [str(APP), str(folder)]  # what app.py reads
    try:
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.suppress(KeyboardInterrupt),  # the server has ended well, and says so
        ):
            app.run(config=STREAMLIT | {"server.port": taken, "server.allowedHosts": names})
    finally:
        # Cut off within a library, the thread would end the process with a crash.
        ended.set()
        reader.join()


PAGES = ("compare", "effects", "features", "graph", "label", "overview", "plan", "review", "steer")
"""Pages whose libraries are read while the browser opens."""


def _read_ahead(folder: str, port: int, ended: threading.Event) -> None:
    """Import what the pages need while the browser loads the front end, until the app has ended."""
    while free(port) and not ended.is_set():  # first the server, then what its pages need
        time.sleep(0.02)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 20)
    import plotly.graph_objects as go
    import streamlit.emojis  # noqa: F401 - a tenth of a second of regular expressions

    from workbench import views

    for page in PAGES:
        if ended.is_set():
            return
        importlib.import_module(f"workbench.views.{page}")

    with contextlib.suppress(WorkbenchError):  # the page says it
        _ = views.open_study(folder).store
    go.Figure(go.Heatmap()).add_scatterpolar()
    sys.setswitchinterval(usual)

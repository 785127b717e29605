"""The app's server answers to its own names and to no stranger's, without a browser."""

import http.client
import socket

import pytest

from tests.helpers.browser import served
from workbench.command.serve import HOSTS, OnlyHosts
from workbench.study import Study

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "streamlit",
}
STRANGERS = [
    "evil.com",
    "evil.com:PORT",
    "127.0.0.1.evil.com",
    "localhost.evil.com:PORT",
    "evil.com@127.0.0.1",
    "127.0.0.1@evil.com",
    "evil.com#127.0.0.1",
    "127.0.0.1/evil.com",
    "localhost:x",
    "localhost:",
    "[::1",
    "[::ffff:127.0.0.1]",
    "127.1",
    "2130706433",
    "0.0.0.0",
    "",
]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("served") / "study")
    with served(study.folder, "--host", "Proxy.example") as address:
        yield int(address.rsplit(":", 1)[1])


def answer(port, path, **headers):
    """Status of the answer, and its first bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read(200) if response.status != 101 else b""
    finally:
        connection.close()


@pytest.mark.parametrize("host", STRANGERS)
def test_a_strangers_host_gets_neither_page_nor_websocket(port, host):
    host = host.replace("PORT", str(port))
    for path in ("/", "/_stcore/health", "/_stcore/host-config"):
        status, body = answer(port, path, Host=host)
        assert (status, body.count(b"\n")) == (403, 1)
        assert b"--host" in body
    assert answer(port, "/_stcore/stream", Host=host, Origin=f"http://{host}", **UPGRADE)[0] == 403
    assert answer(port, "/_stcore/stream", Host=host, **UPGRADE)[0] == 403


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST", "[::1]:PORT", "localhost.", "proxy.example"],
)
def test_the_apps_hosts_get_page_and_websocket(port, host):
    host = host.replace("PORT", str(port))
    assert answer(port, "/", Host=host)[0] == 200
    assert answer(port, "/_stcore/stream", Host=host, Origin=f"http://{host}", **UPGRADE)[0] == 101


@pytest.mark.parametrize(
    "page", ["http://evil.com", "null", "http://localhost:1", "http://127.0.0.1", "file://", ""]
)
def test_another_page_does_not_open_the_websocket(port, page):
    headers = {"Host": f"127.0.0.1:{port}", "Origin": page}
    assert answer(port, "/_stcore/stream", **headers, **UPGRADE)[0] == 403


def test_two_hosts_or_none_are_refused(port):
    for lines in ("", "Host: localhost\r\nHost: evil.com\r\n"):
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert connection.recv(100).split()[1] in (b"400", b"403")
    guard = OnlyHosts(None, HOSTS)
    assert not guard._is_ours({"headers": []})
    assert not guard._is_ours({"headers": [(b"host", b"localhost"), (b"host", b"evil.com")]})

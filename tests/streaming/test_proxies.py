"""A server behind nginx and behind HAProxy, with the configurations that docs/operations.md shows.

On Debian the packages nginx-light and haproxy bring them.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import requests

from tests.clients import basic, curl, until
from tests.publishing import uploads
from tests.serving import ROOT, Server

IRIS = "sluice/iris"
FLOWER = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2,"yhat_id":%d}\n'
# nginx needs a few things around a server block, and as root its own places for files.
NGINX_FRAME = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {text}
}}
"""

pytestmark = pytest.mark.heavy


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy in front of a server."""

    server: Server
    url: str

    def model(self, path: str) -> str:
        """The URL of `owner/name`."""
        return self.server.model(path).replace(self.server.url, self.url)


def documented(language: str, server: Server, port: int) -> str:
    """The block of docs/operations.md, with the addresses of this test."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    [block] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = block.replace("127.0.0.1:9000", f"127.0.0.1:{server.port}")
    return found.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("bind :8080", f"bind 127.0.0.1:{port}")


def command(name: str, server: Server, port: int, folder: Path, limit: str) -> list[str]:
    config = folder / "config"
    text = documented(name, server, port).replace("client_max_body_size 0", f"client_max_body_size {limit}")
    if name == "nginx":
        config.write_text(NGINX_FRAME.format(folder=folder, text=text))
        return ["nginx", "-c", str(config), "-e", str(folder / "error.log")]
    config.write_text(text)
    return ["haproxy", "-f", str(config)]


@contextmanager
def running(name: str, server: Server, folder: Path, limit: str = "0") -> Iterator[Proxy]:
    """A proxy; `limit` is the largest body that nginx takes, of which 0 is none."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(command(name, server, port, folder, limit), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: curl(f"{url}/healthcheck").body == b"ok", what=f"{name} passes requests on")
        yield Proxy(server, url)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    with running(request.param, server, tmp_path_factory.mktemp(request.param)) as proxy:
        yield proxy


def stream(proxy: Proxy, path: Path, out: Path, *options: str) -> list[bytes]:
    """The lines that an upload of this file brings."""
    url = f"{proxy.model(IRIS)}/?bulk=true"
    done = curl(url, *options, "-T", str(path), "-o", str(out), auth=proxy.server.auth, timeout_s=120)
    assert (done.code, done.status) == (0, 200)
    return out.read_bytes().splitlines()


def ids(lines: list[bytes]) -> list[int]:
    return sorted(int(line[line.index(b'"yhat_id":') + 10 : line.rindex(b",")]) for line in lines)


@pytest.mark.parametrize("options", [(), ("-H", "Transfer-Encoding: chunked")], ids=["length", "chunked"])
def test_a_million_records_pass(proxy: Proxy, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "records"
    with path.open("wb") as file:
        file.writelines(FLOWER % i for i in range(1_000_000))
    assert ids(stream(proxy, path, tmp_path / "out", *options)) == list(range(1_000_000))


def test_ten_uploads_of_ten_megabytes_pass_one_after_the_other(proxy: Proxy, tmp_path: Path) -> None:
    """Before the answer was late, nginx let none of them through."""
    path = tmp_path / "records"
    with path.open("wb") as file:
        file.writelines(FLOWER % i for i in range(120_000))
    for _ in range(10):
        assert len(stream(proxy, path, tmp_path / "out")) == 120_000


def test_a_slow_upload_passes(proxy: Proxy, tmp_path: Path) -> None:
    path = tmp_path / "records"
    with path.open("wb") as file:
        file.writelines(FLOWER % i for i in range(120_000))
    started = time.monotonic()
    assert len(stream(proxy, path, tmp_path / "out", "--limit-rate", "3M")) == 120_000
    assert time.monotonic() - started > 2


async def test_a_websocket_passes(proxy: Proxy) -> None:
    headers = {"Authorization": basic(proxy.server.auth)}
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(proxy.model("brandon/HelloWorld")) as client:
        for name in ("jim", "bob"):
            await client.send_json({"name": name})
            assert (await client.receive_json(timeout=30))["result"] == {"greeting": f"Hello {name}"}


def test_a_single_prediction_a_refusal_and_a_published_model_pass(proxy: Proxy) -> None:
    auth = proxy.server.auth
    url = proxy.model("brandon/HelloWorld")
    assert requests.post(url, json={"name": "jim"}, auth=auth, timeout=30).json()["result"] == {"greeting": "Hello jim"}
    assert requests.post(url, json={"name": "jim"}, auth=("admin", "wrong"), timeout=30).status_code == 401
    octets = {"Content-Type": "application/octet-stream"}
    made = requests.put(proxy.model("admin/times"), data=uploads.times(2), headers=octets, auth=auth, timeout=60)
    assert made.status_code < 300, made.text


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("words", [f"score {IRIS}", f"score --gzip {IRIS}", "model publish"])
def test_a_body_that_nginx_does_not_take_is_one_readable_line(server: Server, tmp_path: Path, words: str) -> None:
    """Also where the length of the body is not known before it ends."""
    file = tmp_path / "times.onnx"
    file.write_bytes(os.urandom(4_000_000))
    folder = tmp_path / "nginx"
    folder.mkdir()
    with running("nginx", server, folder, limit="1k") as proxy:
        line = [sys.executable, "-m", "server", *words.split(), str(file)]
        place = {"SLUICE_URL": proxy.url, "SLUICE_KEY": server.key}
        done = subprocess.run(line, cwd=ROOT, env=os.environ | place, capture_output=True, text=True, timeout=60, check=False)
    [said] = done.stderr.splitlines()
    assert "413 Request Entity Too Large (a page of HTML, so perhaps from a proxy): a proxy on the way limits the size" in said
    assert done.returncode == (3 if "score" in words else 1)

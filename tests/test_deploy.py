"""What people deploy: a wheel, an image, a unit of systemd, the figures in Prometheus and Grafana. Each is used here as far as this
machine can: the wheel is installed and serves, and the steps of the Dockerfile are run in a folder in place of an image."""

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from server import __version__, docs
from tests.clients import ndjson, until
from tests.publishing import uploads
from tests.serving import ROOT, Server, clean_environment

DEPLOY = ROOT / "deploy"
SITE_PACKAGES = sysconfig.get_path("purelib")
OCTETS = {"Content-Type": "application/octet-stream"}
LINES = {"Content-Type": "application/x-ndjson"}
EXAMPLES = {"brandon/HelloWorld", "sluice/diabetes", "sluice/iris", "sluice/language", "sluice/penguins", "sluice/wine"}


def run(*command: object, cwd: Path, **more: str) -> str:
    """Standard output of a command that ends well."""
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"} | more
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def lend_packages(venv: Path) -> None:
    """Let a virtual environment use the packages of the tests, so that nothing is fetched. Their own `sluice` is not among them."""
    [site] = venv.glob("lib/python*/site-packages")
    (site / "lent.pth").write_text(SITE_PACKAGES + "\n")


def serve_from(venv: Path, folder: Path, **settings: str) -> Server:
    """The server of a virtual environment, run in a folder without a checkout."""

    class Installed(Server):
        program = (str(venv / "bin" / "sluice"),)
        executable = str(venv / "bin" / "python")

    (folder / "data").mkdir(parents=True, exist_ok=True)
    return Installed(folder / "data", {"PYTHONPATH": "", "SLUICE_SCORE_REPLICAS": "1", **settings}, folder)


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built beside the checkout, because a build writes where it works."""
    stage, out = tmp_path_factory.mktemp("stage"), tmp_path_factory.mktemp("wheel")
    for name in ("engine", "handlers", "models", "server", "setup.cfg", "setup.py", "pyproject.toml", "LICENSE"):
        (stage / name).symlink_to(ROOT / name)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out)
    run(sys.executable, "-m", "pip", "wheel", *options, stage, cwd=out)
    [built] = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=wheel.parent)
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile")
    run(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", *options, wheel, cwd=wheel.parent)
    lend_packages(venv)
    return venv


def test_a_wheel_has_the_version_and_every_file_that_is_not_python(wheel: Path) -> None:
    assert wheel.name.startswith(f"sluice-{__version__}-")
    names = run(sys.executable, "-m", "zipfile", "--list", wheel, cwd=wheel.parent)
    committed = run("git", "ls-files", "engine", "handlers", "server", cwd=ROOT).splitlines()
    assert [name for name in committed if name not in names and not name.endswith(".cpp")] == []
    assert ("_kernel." in names) == (shutil.which("c++") is not None)
    assert "server/models/README.md" in names
    assert wheel.stat().st_size < 3_000_000, "no weights that were fetched on this machine"


def test_an_installed_wheel_serves_its_example_models(installed: Path, tmp_path: Path) -> None:
    sluice = installed / "bin" / "sluice"
    assert run(sluice, "--version", cwd=tmp_path) == f"sluice {__version__}\n"
    server = serve_from(installed, tmp_path)
    try:
        listed = requests.get(f"{server.url}/api/models", auth=server.auth, timeout=30).json()["models"]
        assert {f"{model['owner']}/{model['name']}" for model in listed} == EXAMPLES
        for title in EXAMPLES:
            assert requests.get(server.model(title), auth=server.auth, timeout=60).json()["status"] == "OK", title
        for page in ("/docs", "/docs/swagger-ui.css", "/datasets", "/static/preview.js", "/openapi.json"):
            assert requests.get(server.url + page, timeout=30).status_code == 200, page
        (tmp_path / "names.ndjson").write_bytes(ndjson({"name": f"n{i}"} for i in range(1000)))
        place = {"SLUICE_PORT": str(server.port), "SLUICE_DATA_DIR": str(server.data_dir)}
        run(sluice, "score", "brandon/HelloWorld", "names.ndjson", "-o", "out.csv", cwd=tmp_path, **place)
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 1001
        assert "WARNING" not in server.log
        assert server.stop() == 0
    finally:
        server.stop(9)


# A machine without a compiler


@pytest.fixture
def uncompiled(tmp_path: Path) -> Path:
    """What the install reads of a checkout, without the kernel that was built in this one."""
    shutil.copytree(ROOT / "engine", tmp_path / "engine", ignore=shutil.ignore_patterns("_kernel*", "__pycache__"))
    for name in ("requirements", "models", "server", "setup.cfg", "setup.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def make_kernel(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The step of `make install` that follows when no compiler was found."""
    (folder / "tmp").mkdir()
    environment = clean_environment() | {"PYTHONPATH": str(folder), "TMPDIR": str(folder / "tmp")} | more
    command = [sys.executable, str(folder / "requirements" / "kernel.py")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert not any((folder / "tmp").iterdir()), "the compiler is removed again"
    return done


def test_where_no_compiler_can_be_fetched_the_kernel_is_left_out_with_one_sentence(uncompiled: Path) -> None:
    done = make_kernel(uncompiled, PIP_NO_INDEX="1", PIP_NO_CACHE_DIR="1")
    assert done.returncode == 1
    assert "fetching one, 100 MB" in done.stdout
    assert done.stderr.endswith("the native kernel is not built, and streams take longer without it; `make kernel` tries again\n")


def test_nothing_is_fetched_for_a_kernel_that_is_switched_off(uncompiled: Path) -> None:
    done = make_kernel(uncompiled, SLUICE_NATIVE="false", PIP_NO_INDEX="1")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.heavy
def test_a_compiler_that_is_fetched_builds_a_kernel_that_gives_the_same_bytes(uncompiled: Path) -> None:
    done = make_kernel(uncompiled)
    assert done.returncode == 0, done.stderr
    (uncompiled / "tests").symlink_to(ROOT / "tests")
    run(sys.executable, "-m", "pytest", "-q", "-m", "not heavy", "tests/engine/tasks/scoring/test_kernel.py", cwd=uncompiled)


# The image


class Step(NamedTuple):
    word: str
    text: str


def steps(text: str) -> list[list[Step]]:
    """The instructions of a Dockerfile, stage by stage."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    found: list[list[Step]] = []
    for line in filter(str.strip, lines):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Step(word, rest.strip()))
    return found


STAGES = steps((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
BUILD, IMAGE = STAGES


def texts(stage: list[Step], word: str) -> list[str]:
    return [step.text for step in stage if step.word == word]


def variables(stage: list[Step]) -> dict[str, str]:
    return dict(pair.split("=", 1) for text in texts(stage, "ENV") for pair in shlex.split(text))


def test_the_image_is_slim_runs_as_a_user_without_rights_and_is_checked() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"}
    assert {step.word for stage in STAGES for step in stage} <= known
    assert [step.text.split()[0] for step in (BUILD[0], IMAGE[0])] == ["python:3.11-slim"] * 2
    [user] = texts(IMAGE, "USER")
    [made] = [text for text in texts(IMAGE, "RUN") if "useradd" in text]
    assert made.endswith(f" {user}")
    assert "--system" in made
    [check] = texts(IMAGE, "HEALTHCHECK")
    assert json.loads(check.partition(" CMD ")[2]) == ["sluice", "health"]
    assert [json.loads(text) for text in texts(IMAGE, "CMD")] == [["sluice"]]
    assert texts(IMAGE, "EXPOSE") == ["9000"]
    assert variables(IMAGE)["SLUICE_DATA_DIR"] == texts(IMAGE, "VOLUME")[0]
    hashed = [text for text in texts(BUILD, "RUN") if "-r requirements/" in text]
    assert len(hashed) == 2
    assert all("--require-hashes" in text for text in hashed)


def test_the_image_gets_every_file_that_it_needs_and_no_other() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "nothing is sent that is not named"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for text in texts(BUILD, "COPY") for source in text.split()[:-1]}
    assert {source.partition("/")[0] for source in copied} == allowed
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert not allowed & {"data", ".venv", "build", "tests"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the steps of the first stage were run; what pip and apt-get would fetch is lent."""
    root = tmp_path_factory.mktemp("image")
    [place] = texts(BUILD, "WORKDIR")
    folder = root / place.lstrip("/")
    folder.mkdir(parents=True)
    acts: dict[str, Callable[[str], None]] = {
        "COPY": lambda text: _copied(text, folder),
        "RUN": lambda text: _ran(text, folder),
    }
    for step in BUILD:
        acts.get(step.word, lambda text: None)(step.text)
    return root


def _copied(text: str, folder: Path) -> None:
    *sources, target = text.split()
    for source in sources:
        to = folder / target / Path(source).name if target.endswith("/") else folder / target
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, to, ignore=_fetched)
        else:
            shutil.copy(ROOT / source, to)


def _fetched(folder: str, names: list[str]) -> set[str]:
    """What lies in the checkout and was fetched or made on this machine."""
    is_embedding = Path(folder).name.startswith("all-")
    return {name for name in names if name == "__pycache__" or name.endswith("-8bit") or (is_embedding and name == "1")}


def _ran(text: str, folder: Path) -> None:
    if "--require-hashes" in text:
        assert (folder / text.split(" -r ")[1]).is_file()
        return
    if text.startswith("apt-get "):
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if " -m venv " in text:
        run("sh", "-ec", f"{text} --without-pip", cwd=folder, PATH=path)
        lend_packages(folder / ".venv")
    else:
        run("sh", "-ec", text, cwd=folder, PATH=path, SLUICE_FETCH_MODELS="false")


@pytest.mark.heavy
def test_the_steps_of_the_dockerfile_make_a_server_that_passes_its_health_check(image: Path, tmp_path: Path) -> None:
    settings = variables(IMAGE)
    path = settings.pop("PATH").replace("/opt/", f"{image}/opt/").replace("$PATH", os.environ["PATH"])
    assert shutil.which("sluice", path=path) == str(image / "opt/sluice/.venv/bin/sluice")
    listens = settings | {"SLUICE_HOST": "127.0.0.1", "SLUICE_DATA_DIR": str(tmp_path / "data")}
    server = serve_from(image / "opt/sluice/.venv", tmp_path, **listens)
    try:
        assert all(json.loads(line) for line in server.log.splitlines())
        [check] = texts(IMAGE, "HEALTHCHECK")
        command = json.loads(check.partition(" CMD ")[2])
        assert run(*command, cwd=tmp_path, PATH=path, SLUICE_PORT=str(server.port)) == "ok\n"
        answer = requests.post(server.model("brandon/HelloWorld"), json={"name": "Kermit"}, auth=server.auth, timeout=30)
        assert answer.json()["result"] == {"greeting": "Hello Kermit"}
        assert server.stop() == 0
    finally:
        server.stop(9)


# systemd


UNIT = (DEPLOY / "sluice.service").read_text(encoding="utf-8")


def test_the_unit_gives_the_server_time_to_drain_and_does_not_repeat_a_bad_setting() -> None:
    settings = dict(re.findall(r"^(\w+)=(.*)$", UNIT, re.MULTILINE))
    assert settings["ExecStart"].endswith("/bin/sluice")
    assert int(settings["TimeoutStopSec"]) > 32
    assert (settings["DynamicUser"], settings["KillMode"], settings["RestartPreventExitStatus"]) == ("yes", "mixed", "64")
    assert settings["Environment"] == f"SLUICE_DATA_DIR=/var/lib/{settings['StateDirectory']}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_takes_the_unit_and_calls_it_well_protected(tmp_path: Path) -> None:
    unit = tmp_path / "sluice.service"
    unit.write_text(UNIT.replace("/opt/sluice/bin/sluice", "/bin/true"))  # systemd looks for the program
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    protected = run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit, cwd=tmp_path)
    assert "Overall exposure level" in protected


@functools.cache
def call_sets() -> dict[str, list[str]]:
    """The sets of system calls, such as `@system-service`, as this systemd knows them; a set may name others."""
    sets: dict[str, list[str]] = {}
    for line in run("systemd-analyze", "syscall-filter", "--no-pager", cwd=ROOT).splitlines():
        if line.startswith("@"):  # what belongs to it is indented
            sets[line] = []
        elif line.strip() and not line.strip().startswith("#"):
            next(reversed(sets.values())).append(line.strip())
    return sets


def allowed_calls(name: str) -> set[str]:
    return {call for entry in call_sets()[name] for call in (allowed_calls(entry) if entry.startswith("@") else {entry})}


@pytest.mark.heavy
@pytest.mark.skipif(not (shutil.which("systemd-analyze") and shutil.which("strace")), reason="needs systemd and strace")
def test_the_server_makes_only_the_system_calls_that_the_unit_allows(tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    class Traced(Server):
        executable = "strace"
        program = ("-f", "-qq", "-c", "-U", "name", "-o", str(calls), sys.executable, "-m", "server")

    (tmp_path / "data").mkdir()
    server = Traced(tmp_path / "data", {"SLUICE_SCORE_REPLICAS": "1"})
    pid = int(run("pgrep", "-P", server.process.pid, cwd=ROOT))
    try:
        made = requests.put(server.model("admin/times"), data=uploads.times(2), headers=OCTETS, auth=server.auth, timeout=60)
        assert made.status_code == 201
        rows = requests.put(f"{server.url}/api/datasets/admin/t", data=b'{"a":1}\n', headers=LINES, auth=server.auth, timeout=60)
        assert rows.status_code == 201
        query = {"query": 'select * from "hub://admin/t"'}
        assert requests.post(f"{server.url}/api/query/v1", json=query, auth=server.auth, timeout=60).status_code == 200
    finally:
        os.kill(pid, signal.SIGTERM)
        server.process.wait(60)
        server.stop()
    [names] = re.findall(r"^SystemCallFilter=(\S+)$", UNIT, re.MULTILINE)
    words = {line.strip() for line in calls.read_text().splitlines()} - {"syscall", "total"}
    made_calls = {word for word in words if re.fullmatch(r"\w+", word)}
    assert len(made_calls) > 50
    assert made_calls <= allowed_calls(names)


# Prometheus and Grafana


PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
BOARD = json.loads((DEPLOY / "grafana.json").read_text(encoding="utf-8"))
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def test_what_prometheus_is_told_gives_it_the_figures(server: Server) -> None:
    [job] = PROMETHEUS["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert target == "127.0.0.1:9000", "where the server listens by default"
    auth = (job["basic_auth"]["username"], server.key)
    answer = requests.get(f"{server.url}{job['metrics_path']}", auth=auth, timeout=30)
    assert answer.status_code == 200
    assert len([*text_string_to_metric_families(answer.text)]) > 20


def known_metrics() -> dict[str, set[str]]:
    """The labels of each series that /metrics shows, by its name; Prometheus adds job and instance."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", docs.metric_names(), re.MULTILINE)
    labels = {name: {*re.findall(r"`(\w+)`", text), "job", "instance"} for name, text in rows}
    parts = {f"{name}_{part}": labels[name] | {"le"} for name in labels for part in ("bucket", "sum", "count")}
    return labels | parts


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    known = known_metrics()
    used = re.findall(r"(sluice_\w+)\{([^}]*)\}", expression)
    assert len(used) == expression.count("sluice_"), "every metric has its job"
    for name, matchers in used:
        assert name in known
        asked = {*re.findall(r"(\w+)=", matchers)}
        grouped = {label for text in re.findall(r"by \(([^)]*)\)", expression) for label in text.split(", ")}
        assert asked | grouped <= known[name]
        assert "job" in asked


def test_the_legends_name_labels_that_their_panel_has() -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            grouped = {label for text in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in text.split(", ")}
            assert {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])} <= grouped, panel["title"]


def test_the_panels_have_places_of_their_own_and_most_metrics_are_shown() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    shown = {name for text in EXPRESSIONS for name in re.findall(r"sluice_\w+", text)}
    assert len(shown) > 20


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    key, config = tmp_path / "sluice.key", tmp_path / "prometheus.yml"
    key.write_text("key")
    config.write_text((DEPLOY / "prometheus.yml").read_text(encoding="utf-8").replace("/etc/prometheus/sluice.key", str(key)))
    run("promtool", "check", "config", config, cwd=tmp_path)


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Prometheus that was told what deploy/prometheus.yml says, of the server of the tests."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8").replace("15s", "1s")
    text = text.replace("127.0.0.1:9000", server.url[7:]).replace("/etc/prometheus/sluice.key", f"{server.data_dir}/admin.key")
    (folder / "prometheus.yml").write_text(text)
    with subprocess.Popen(
        ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"],
        cwd=folder, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            found = next(match for line in process.stderr if (match := re.search(r'msg="Listening on" address=(\S+)', line)))
            url = f"http://{found[1]}"
            until(lambda: requests.get(f"{url}/-/ready", timeout=30).status_code == 200)
            yield url
        finally:
            process.kill()


def asked(prometheus: str, expression: str) -> Any:
    query = expression.replace("$__rate_interval", "1m").replace("$job", "sluice").replace("$model", ".*")
    return requests.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=30).json()


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus")
def test_prometheus_reads_the_server_and_answers_every_panel(prometheus: str) -> None:
    until(lambda: [one["value"][1] for one in asked(prometheus, 'up{job="sluice"}')["data"]["result"]] == ["1"])
    assert [text for text in EXPRESSIONS if asked(prometheus, text)["status"] != "success"] == []
    assert asked(prometheus, EXPRESSIONS[0])["data"]["result"]

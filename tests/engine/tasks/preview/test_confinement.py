"""Nothing outside a dataset can be read, whatever a README.md, a link or a cell asks for; and no connection is opened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.tasks.preview.files import Folder, OutsideError
from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import flat_picture, front_matter, json_lines
from tests.serving import ROOT

SECRET = "s3cret-of-the-machine"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no dataset may show."""
    path = tmp_path / "secret.csv"
    path.write_text(f"a\n{SECRET}\n")
    return path


@pytest.mark.parametrize(
    "path",
    [
        "../secret.csv",
        "x/../../secret.csv",
        "/etc/passwd",
        "",
        ".",
        "..",
        "a//b",
        "http://127.0.0.1/x",
        "a\0b",
        "link.csv",
        "links/s.csv",
    ],
)
def test_a_path_that_leaves_the_dataset_is_not_opened(datasets: Datasets, secret: Path, path: str) -> None:
    folder = datasets.lay("d", {"a.csv": "a\n1\n"})
    (folder / "link.csv").symlink_to(secret)
    (folder / "links").symlink_to(secret.parent)
    with Folder.of_dataset(str(datasets.root), "d") as opened, pytest.raises((OSError, ValueError)):
        opened.open(path)


@pytest.mark.parametrize("name", ["../root/d", "/etc", "a/b/c", "", ".hidden", "d/..", "a\0"])
def test_a_name_that_is_none_is_not_joined_to_a_path(datasets: Datasets, name: str) -> None:
    datasets.lay("d", {"a.csv": "a\n1\n"})
    with pytest.raises(OutsideError):
        Folder.of_dataset(str(datasets.root), name)


def test_a_dataset_that_is_a_link_is_not_opened(datasets: Datasets, secret: Path) -> None:
    (datasets.root / "d").symlink_to(secret.parent)
    assert datasets.failure("d", task="splits")["code"] == "SplitsNamesError"


@pytest.mark.parametrize("pattern", ["../secret.csv", "../*.csv", "link.csv", "*.csv", "links/*", "**/*.csv", "{0}", "file://{0}"])
def test_a_pattern_of_the_readme_matches_no_link_and_nothing_outside(datasets: Datasets, secret: Path, pattern: str) -> None:
    readme = front_matter(f"configs:\n- config_name: default\n  data_files: '{pattern.format(secret)}'")
    folder = datasets.lay("d", {"README.md": readme, "other.txt": "x"})
    (folder / "link.csv").symlink_to(secret)
    (folder / "links").symlink_to(secret.parent)
    failure = datasets.failure("d", task="splits")
    assert failure["code"] == "SplitsNamesError"
    assert SECRET not in str(failure)


def test_an_address_as_a_pattern_opens_no_connection(datasets: Datasets) -> None:
    datasets.lay("d", {"README.md": front_matter("configs:\n- data_files: http://127.0.0.1:9/x.csv"), "a.csv": "a\n1\n"})
    assert datasets.failure("d", task="splits")["cause_message"] == "no file matches the pattern 'http://127.0.0.1:9/x.csv'"


def test_a_data_dir_outside_is_none(datasets: Datasets, secret: Path) -> None:
    for data_dir in ("..", "/", "../..", "a/../.."):
        datasets.lay("d", {"README.md": front_matter(f"configs:\n- data_dir: {data_dir}"), "a.csv": "a\n1\n"})
        assert datasets.failure("d", task="splits")["code"] == "SplitsNamesError"


def test_links_and_pipes_are_not_listed(datasets: Datasets, secret: Path) -> None:
    folder = datasets.lay("d", {"a.csv": "a\n1\n"})
    (folder / "b.csv").symlink_to(secret)
    os.mkfifo(folder / "c.csv")
    assert datasets.rows("d").rows == [{"a": 1}]


def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(datasets: Datasets) -> None:
    folder = datasets.lay("d", {"a.csv": "a\n1\n"})
    os.mkfifo(folder / "pipe")
    with Folder.of_dataset(str(datasets.root), "d") as opened, pytest.raises(OutsideError):
        opened.open("pipe")


def test_a_picture_outside_is_null_and_named(datasets: Datasets, tmp_path: Path) -> None:
    (tmp_path / "root" / "other.png").write_bytes(flat_picture((4, 4), "PNG"))
    paths = ["../other.png", str(tmp_path / "root" / "other.png"), "http://127.0.0.1:9/x.png", "link.png", "in.png", None]
    features = "dataset_info:\n  features:\n  - name: p\n    dtype: image"
    folder = datasets.lay("d", {"README.md": front_matter(features), "a.jsonl": json_lines([{"p": path} for path in paths])})
    (folder / "in.png").write_bytes(flat_picture((4, 4), "PNG"))
    (folder / "link.png").symlink_to(tmp_path / "root" / "other.png")
    readme = front_matter(features + "\nconfigs:\n- data_files: a.jsonl")
    (folder / "README.md").write_text(readme)
    shown = datasets.rows("d")
    assert shown.column("p") == [None] * 4 + ["assets/d/--/default/train/4/p/image.jpg", None]
    assert [row.get("truncated_cells") for row in shown.old["rows"]] == [["p"]] * 4 + [None, None]


def test_metadata_cannot_name_a_picture_outside(datasets: Datasets) -> None:
    (datasets.root / "other.png").write_bytes(flat_picture((4, 4), "PNG"))
    files = {"in.png": flat_picture((4, 4), "PNG"), "metadata.csv": "file_name,x\n../other.png,1\nin.png,2\n"}
    datasets.lay("d", files)
    shown = datasets.rows("d")
    assert shown.rows == [{"image": "assets/d/--/default/train/0/image/image.jpg", "x": 2}]


@pytest.mark.parametrize(
    "statement",
    [
        "create_connection(('127.0.0.1', 9))",
        "getaddrinfo('localhost', 80)",
        "socket().connect(('127.0.0.1', 9))",
    ],
)
def test_a_replica_of_previews_cannot_open_a_connection(statement: str) -> None:
    program = (
        "import socket\nfrom engine.tasks import preview\nfrom engine.tasks.families import Families\n"
        f"preview.tasks(Families())\ntry:\n    socket.{statement}\nexcept PermissionError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "a replica of previews opens no connection\n"

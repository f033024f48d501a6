"""A command-line client finds its server and its key in a flag, then in the environment, then in the local data directory."""

import argparse
from pathlib import Path

import pytest

from server.commands.remote import BadRemote, Remote, add_arguments, find_remote
from tests.clients import basic


def found(arguments: str, **environment: str) -> Remote:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return find_remote(parser.parse_args(arguments.split()), environment)


def test_a_flag_takes_precedence_over_the_environment_and_that_over_the_default() -> None:
    environment = {"SLUICE_URL": "http://there:1", "SLUICE_USER": "eva", "SLUICE_KEY": "k1"}
    assert found("", **environment) == Remote(found("--url http://there:1").url, "eva", "k1")
    flags = found("--url http://here:2 --user bob --key k2", **environment)
    assert (flags.url.geturl(), flags.user, flags.key) == ("http://here:2", "bob", "k2")
    assert found("", SLUICE_DATA_DIR="/nowhere").url.geturl() == "http://127.0.0.1:9000"
    assert found("", SLUICE_URL=" ", SLUICE_USER="", SLUICE_DATA_DIR="/nowhere").user == "admin"


def test_the_admins_key_is_read_only_for_the_admin_and_a_server_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("secret\n")
    data = {"SLUICE_DATA_DIR": str(tmp_path)}
    for url in ("http://127.0.0.1:9000", "http://localhost:1", "http://[::1]:9000"):
        assert found(f"--url {url}", **data).key == "secret"
    for arguments in ("--url http://example.org", "--url http://10.0.0.1:9000", "--user eva"):
        assert found(arguments, **data).key is None
        assert found(arguments, **data).headers == {}
    assert found("--key mine", **data).key == "mine"
    assert found("", SLUICE_DATA_DIR="/nowhere").key is None


def test_a_path_under_the_address_is_kept_and_names_are_quoted() -> None:
    assert found("--url http://x/sluice/").path("a b", "models", "c/d") == "/sluice/a%20b/models/c%2Fd"
    assert found("--url http://eva:secret@[::1]:90?q#f").url.geturl() == "http://[::1]:90"


def test_credentials_are_basic() -> None:
    assert found("--user eva --key k").headers == {"Authorization": basic(("eva", "k"))}


@pytest.mark.parametrize("url", ["here", "ftp://x", "http://", "http://x:99999", "http://[", "//x:1"])
def test_a_bad_address_is_refused(url: str) -> None:
    with pytest.raises(BadRemote):
        found(f"--url {url}")

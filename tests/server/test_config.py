"""Settings: each is read from the command line or the environment, checked, and refused by name."""

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from engine.streaming.predictions import PredictionLimits
from handlers.streaming.keys import StreamingLimits
from server import config
from server.config import BadSetting, Settings, default_text, environment_name, read_settings, usable_cores
from server.values import SURFACES

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = [setting.name for setting in fields(Settings)]
# A whole number, but no count: it takes two values only.
STATUS = "preview_not_found_status"
COUNTS = [name for name in NAMES if type(getattr(Settings(), name)) is int and name != STATUS]
SECONDS = [name for name in NAMES if name.endswith("_s")]
MAY_BE_ZERO = {
    "disk_reserve_bytes",
    "port",
    "jobs_replicas",
    "idle_timeout_s",
    "drain_s",
    "interactive_bytes",
    "replica_memory_bytes",
    "rows_min_number",
    "max_size_fallback",
    "max_age_long_seconds",
    "max_age_short_seconds",
    "preview_max_prepare_bytes",
}
# 0 and below mean that nothing is kept.
MAY_BE_NEGATIVE = ("max_age_long_seconds", "max_age_short_seconds")


def read(name: str, text: str) -> object:
    return getattr(read_settings({environment_name(name): text}), name)


def test_without_any_values_every_setting_is_its_default() -> None:
    assert read_settings({}) == Settings()


def test_the_defaults_are_those_of_the_spec() -> None:
    settings = Settings()
    assert (settings.max_streams, settings.max_streams_per_user, settings.max_queued) == (64, 16, 1024)
    assert (settings.window_bytes, settings.line_limit_bytes, settings.body_limit_bytes) == (4 << 20, 1 << 20, 8 << 20)
    assert (settings.decoded_limit_bytes, settings.spill_limit_bytes, settings.spill_total_bytes) == (64 << 30, 4 << 30, 16 << 30)
    assert (settings.idle_timeout_s, settings.stall_timeout_s, settings.block_timeout_s) == (300, 60, 60)
    assert (settings.request_timeout_s, settings.load_timeout_s, settings.drain_s) == (60, 60, 30)
    assert settings.anonymous == {"embeddings", "preview"}
    assert settings.score_replicas == usable_cores()
    assert not settings.compat_status


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_value_is_the_default(name: str) -> None:
    for text in ("", " ", "\t"):
        assert read(name, text) == getattr(Settings(), name)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "score_replicas"])
def test_a_default_can_be_typed(name: str) -> None:
    setting = next(setting for setting in fields(Settings) if setting.name == name)
    assert read(name, default_text(setting)) == getattr(Settings(), name)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_sentence_and_a_name_in_the_environment(name: str) -> None:
    setting = next(setting for setting in fields(Settings) if setting.name == name)
    assert setting.metadata["text"]
    assert environment_name(name) == "SLUICE_" + name.upper()


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_a_whole_number(name: str) -> None:
    assert read(name, "42") == 42
    assert read(name, " 7 ") == 7
    assert type(read(name, "42")) is int
    if name != "port":
        assert read(name, "1_000_000") == 1_000_000


def test_a_status_is_404_or_400() -> None:
    assert [read(STATUS, text) for text in ("404", "400")] == [404, 400]
    for text in ("42", "500", "x"):
        with pytest.raises(BadSetting, match="must be 404 or 400"):
            read(STATUS, text)


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_may_have_a_fraction(name: str) -> None:
    assert read(name, "0.25") == 0.25
    assert read(name, "1e3") == 1000
    assert type(read(name, "5")) is float


@pytest.mark.parametrize("name", [*COUNTS, *SECONDS])
def test_zero_is_accepted_only_where_it_has_a_meaning(name: str) -> None:
    if name in MAY_BE_ZERO:
        assert read(name, "0") == 0
    else:
        with pytest.raises(BadSetting, match=environment_name(name)):
            read(name, "0")


BAD = (
    [
        (name, text)
        for name in COUNTS
        for text in ("-1", "1.5", "many", "1e3", "0x10", "9" * 5000)
        if text != "-1" or name not in MAY_BE_NEGATIVE
    ]
    + [(name, text) for name in SECONDS for text in ("-1", "-0.1", "nan", "inf", "-inf", "soon", "1 s")]
    + [("port", "65536"), ("compat_status", "maybe"), ("compat_status", "2"), ("log_level", "LOUD"), ("log_level", "20")]
    + [("anonymous", text) for text in ("everything", "preview,none", "preview;metrics", "query")]
)


@pytest.mark.parametrize(("name", "text"), BAD, ids=lambda value: value[:20])
def test_a_bad_value_is_refused_in_one_line_that_names_the_setting(name: str, text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read(name, text)
    message = str(caught.value)
    assert message.startswith(f"{environment_name(name)}={text}: ")
    assert "\n" not in message


def test_the_first_bad_setting_is_named() -> None:
    with pytest.raises(BadSetting, match="SLUICE_PORT"):
        read_settings({"SLUICE_PORT": "x", "SLUICE_DRAIN_S": "x"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("TRUE", True),
        ("1", True),
        ("Yes", True),
        ("on", True),
        ("false", False),
        ("0", False),
        ("no", False),
        ("OFF", False),
    ],
)
def test_a_flag_is_given_in_words(text: str, value: bool) -> None:
    assert read("compat_status", text) is value


def test_a_log_level_may_be_in_lower_case() -> None:
    assert read("log_level", "debug") == "DEBUG"


def test_surfaces_are_separated_by_commas_or_all_closed() -> None:
    assert read("anonymous", "streaming, Metrics") == {"streaming", "metrics"}
    assert read("anonymous", ",".join(SURFACES)) == SURFACES
    assert read("anonymous", "preview,,") == {"preview"}
    assert read("anonymous", "none") == frozenset()
    assert read("anonymous", "NONE") == frozenset()


def test_commas_without_a_surface_are_refused_and_do_not_close_all_surfaces() -> None:
    with pytest.raises(BadSetting, match="SLUICE_ANONYMOUS"):
        read("anonymous", ",")


def test_a_path_may_contain_spaces_and_an_address_is_taken_as_it_is() -> None:
    assert read("data_dir", "/tmp/some where") == Path("/tmp/some where")
    assert read("host", "0.0.0.0") == "0.0.0.0"


def test_the_command_line_takes_precedence_over_the_environment() -> None:
    environment = {"SLUICE_PORT": "1000", "SLUICE_DRAIN_S": "5"}
    settings = read_settings(environment, {"port": "2000", "drain_s": None})
    assert (settings.port, settings.drain_s) == (2000, 5)


def test_a_bad_value_in_the_environment_is_ignored_when_the_command_line_has_a_good_one() -> None:
    assert read_settings({"SLUICE_PORT": "bad"}, {"port": "2000"}).port == 2000


def test_other_environment_variables_are_ignored() -> None:
    assert read_settings({"SLUICE_UNKNOWN": "x", "PORT": "1", "PATH": "/bin"}) == Settings()


OLDER = {setting.metadata["older"]: setting for setting in fields(Settings) if setting.metadata["older"]}
# An older name and a value for it that is not the default.
OLDER_VALUES = [
    ("APP_HOSTNAME", "0.0.0.0", "0.0.0.0"),
    ("APP_PORT", "8000", 8000),
    ("ASSETS_DIRECTORY", "/srv/assets", Path("/srv/assets")),
    ("LOG_LEVEL", "critical", "CRITICAL"),
    ("MAX_AGE_LONG_SECONDS", "0", 0),
    ("MAX_AGE_SHORT_SECONDS", "-1", -1),
    ("ROWS_MAX_BYTES", "2_000_000", 2_000_000),
    ("ROWS_MAX_NUMBER", "50", 50),
    ("ROWS_MIN_NUMBER", "2", 2),
    ("MAX_LOAD_PCT", "0", 0),
    ("MAX_MEMORY_PCT", "1", 1),
    ("MAX_JOBS_PER_DATASET", "1", 1),
    ("MAX_SIZE_FALLBACK", "1_000", 1000),
    ("WORKER_QUEUE", "SPLITS", "splits"),
    ("WORKER_SLEEP_SECONDS", "0.5", 0.5),
    ("HF_TOKEN", "hf_secret", "hf_secret"),
    ("DATASETS_ENABLE_PRIVATE", "false", False),
]


@pytest.mark.parametrize(("older", "text", "value"), OLDER_VALUES)
def test_an_older_name_is_read_where_ours_has_no_value(older: str, text: str, value: object) -> None:
    name = OLDER[older].name
    assert getattr(read_settings({older: text}), name) == value
    assert getattr(read_settings({older: text, environment_name(name): " "}), name) == value


@pytest.mark.parametrize("older", OLDER)
def test_our_name_wins_over_an_older_one(older: str) -> None:
    name = environment_name(OLDER[older].name)
    own = {"APP_PORT": "1", "LOG_LEVEL": "ERROR", "WORKER_QUEUE": "splits", "DATASETS_ENABLE_PRIVATE": "true"}.get(older, "3")
    assert read_settings({older: "", name: own}) == read_settings({older: "nonsense", name: own})


def test_every_older_name_has_a_value_here() -> None:
    assert {older for older, _, _ in OLDER_VALUES} == OLDER.keys()


def test_a_bad_value_under_an_older_name_is_refused_under_that_name() -> None:
    with pytest.raises(
        BadSetting, match=r"^APP_PORT=x: this value must be a whole number. What it sets: port that the server listens on"
    ):
        read_settings({"APP_PORT": "x"})
    with pytest.raises(BadSetting, match=r"^WORKER_QUEUE=all: this value must be datasets or splits\."):
        read_settings({"WORKER_QUEUE": "all"})


def test_the_names_of_other_services_that_mean_nothing_here_are_found_once_each() -> None:
    found = {
        "MONGO_URL": "mongodb://x",
        "WEB_CONCURRENCY": "2",
        "MONGO_QUEUE_DATABASE": "",
        "DATASETS_REVISION": "main",
        "PORT": "1",
    }
    assert config.ignored_names(found) == ["DATASETS_REVISION", "MONGO_URL", "WEB_CONCURRENCY"]
    assert read_settings(found) == Settings()


def test_a_variable_that_looks_like_a_setting_and_is_none_is_found_with_the_nearest_name() -> None:
    found = {"SLUICE_PROT": "9001", "SLUICE_MAX_STREAM": "3", "SLUICE_ZZZZ": "x", "SLUICE_EMPTY": " ", "PORT": "1"}
    known = {"SLUICE_PORT": "9001", "SLUICE_URL": "x", "SLUICE_USER": "x", "SLUICE_KEY": "x"}
    nearest = {"SLUICE_MAX_STREAM": "SLUICE_MAX_STREAMS", "SLUICE_PROT": "SLUICE_PORT", "SLUICE_ZZZZ": None}
    assert config.unknown_names(found | known) == nearest


@pytest.mark.parametrize("name", ["assets_dir", "max_load_pct", "max_memory_pct", "hf_token", "datasets_enable_private"])
def test_a_setting_may_be_unset(name: str) -> None:
    assert getattr(Settings(), name) is None
    assert read(name, "unset") is None


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_each_part_gets_its_settings_by_the_same_names() -> None:
    settings = read_settings({"SLUICE_WINDOW_BYTES": "111", "SLUICE_LINE_LIMIT_BYTES": "222", "SLUICE_MAX_STREAMS": "3"})
    limits, streaming = settings.part(PredictionLimits), settings.part(StreamingLimits)
    assert (limits.window_bytes, limits.max_streams, streaming.line_limit_bytes) == (111, 3, 222)
    for part in (limits, streaming):
        for one in fields(part):
            assert getattr(part, one.name) == getattr(settings, one.name)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("nonsense", None)],
)
def test_usable_cores_are_the_cores_of_the_affinity_but_not_more_than_the_quota(
    quota: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(config, "CGROUP_QUOTA", tmp_path / "cpu.max")
    cores = len(os.sched_getaffinity(0))
    assert usable_cores() == (cores if expected is None else min(cores, expected))


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CGROUP_QUOTA", tmp_path / "nothing")
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_a_server_with_a_bad_setting_says_so_in_one_line_and_exits_64(tmp_path: Path) -> None:
    environment = {**os.environ, "SLUICE_PORT": "ninety", "SLUICE_DATA_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-m", "server"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 64
    assert len(ended.stderr.splitlines()) == 1
    assert "SLUICE_PORT=ninety" in ended.stderr

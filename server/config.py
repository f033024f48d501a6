"""Settings: each exists once, here, with its sentence and unit. `--help`, the README table and the checks are made from this table.

A value comes from the command line, else from the environment (SLUICE_<NAME>), else it is the default. An empty value is the
default. A value that cannot be is one line on stderr and exit code 64.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.embeddings import EmbeddingLimits
from engine.engine import Limits
from engine.publishing import PublishingLimits
from handlers.streaming.keys import StreamingLimits

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SURFACES = frozenset({"embeddings", "preview", "streaming", "metrics"})
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class BadSetting(ValueError):
    """A setting has a value it cannot have; says which, and what would do."""


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups here, or no quota ("max")
        return cores


def _count(text: str, least: int = 0) -> int:
    number = int(text)
    if number < least:
        raise ValueError(f"at least {least}")
    return number


def _positive(text: str) -> int:
    return _count(text, 1)


def _port(text: str) -> int:
    number = _count(text)
    if number > 65535:
        raise ValueError("at most 65535")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError("seconds, 0 or more")
    return number


def _positive_seconds(text: str) -> float:
    number = _seconds(text)
    if number == 0:
        raise ValueError("more than 0 seconds")
    return number


def _flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("DEBUG, INFO, WARNING or ERROR")
    return text.upper()


def _surfaces(text: str) -> frozenset[str]:
    names = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    if names == {"none"}:
        return frozenset()
    if not names or not names <= SURFACES:
        raise ValueError(f"any of {', '.join(sorted(SURFACES))}, or none")
    return names


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise ValueError("names with commas between")
    return () if names == ("none",) else names


def _aliases(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in _names(text)]
    if not all(alias.strip() and name.strip() for alias, _, name in pairs):
        raise ValueError("alias=name, with commas between")
    return {alias.strip(): name.strip() for alias, _, name in pairs}


def _setting(default: Any, parse: Callable[[str], Any], text: str) -> Any:
    """A field of Settings: its default, how text becomes a value, and its sentence with the unit."""
    metadata = {"parse": parse, "text": text}
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Names end in their unit."""

    host: str = _setting("127.0.0.1", str, "address to listen on")
    port: int = _setting(9000, _port, "port to listen on; 0 takes a free one and logs it")
    data_dir: Path = _setting(lambda: Path("data"), Path, "directory of everything the server writes")
    log_level: str = _setting("INFO", _level, "DEBUG, INFO, WARNING or ERROR")
    anonymous: frozenset[str] = _setting(
        lambda: frozenset({"embeddings", "preview"}),
        _surfaces,
        "surfaces that need no credentials: embeddings, preview, streaming, metrics; none closes all",
    )
    compat_status: bool = _setting(False, _flag, "true: answer routing errors and refused records with 500, as ScienceOps did")
    score_replicas: int = _setting(usable_cores, _positive, "replicas that score; default one for each usable core")
    jobs_replicas: int = _setting(2, _count, "replicas for durable work and publishing checks, started when first needed")
    max_streams: int = _setting(64, _positive, "streams at once; more are answered 429")
    max_streams_per_user: int = _setting(16, _positive, "streams of one user at once")
    max_queued: int = _setting(1024, _positive, "single predictions that may wait; more are answered 429")
    window_bytes: int = _setting(4 * MIB, _positive, "bytes of a stream that are read and not yet answered")
    line_limit_bytes: int = _setting(MIB, _positive, "bytes of one line of a stream; a longer one gets an error line")
    body_limit_bytes: int = _setting(8 * MIB, _positive, "bytes of a single prediction's body, decoded")
    decoded_limit_bytes: int = _setting(64 * GIB, _positive, "bytes that an encoded stream may decode to")
    spill_limit_bytes: int = _setting(
        4 * GIB, _positive, "bytes of results one stream may keep on disk for a client that does not read"
    )
    spill_total_bytes: int = _setting(16 * GIB, _positive, "the same for all streams together")
    idle_timeout_s: float = _setting(300.0, _seconds, "seconds an upload may stop; 0 means for ever")
    stall_timeout_s: float = _setting(
        60.0, _positive_seconds, "seconds a client may take nothing once the stream can only wait for it"
    )
    block_timeout_s: float = _setting(60.0, _positive_seconds, "seconds a replica may take for one block before it is killed")
    check_timeout_s: float = _setting(120.0, _positive_seconds, "seconds the check of a published model may take")
    model_limit_bytes: int = _setting(2 * GIB, _positive, "bytes of a model's files when it is published")
    keep_versions: int = _setting(10, _positive, "newest versions of a model that are kept; the active one always is")
    request_timeout_s: float = _setting(60.0, _positive_seconds, "seconds until a single prediction is given up")
    load_timeout_s: float = _setting(60.0, _positive_seconds, "seconds a request waits for a model that is loading")
    drain_s: float = _setting(30.0, _seconds, "seconds that running streams get to end after SIGTERM")

    embedding_models: tuple[str, ...] = _setting(
        (), _names, "embedding models that are served, with commas between; none: those that models.txt names"
    )
    model_aliases: dict[str, str] = _setting(
        dict, _aliases, "other names that /v1/embeddings takes for models: text-embedding-3-small=all-MiniLM-L6-v2,..."
    )
    fetch_models: bool = _setting(True, _flag, "false: `make run` does not fetch the weights of the first listed embedding model")
    embed_body_limit_bytes: int = _setting(32 * MIB, _positive, "bytes of an embeddings request's body, decoded")
    embed_max_inputs: int = _setting(2048, _positive, "texts of one embeddings request")
    embed_max_tokens: int = _setting(300_000, _positive, "tokens of one embeddings request, after long texts were cut")
    embed_text_limit_bytes: int = _setting(MIB, _positive, "bytes of one text of an embeddings request, in UTF-8")
    embed_timeout_s: float = _setting(120.0, _positive_seconds, "seconds until an embeddings request is given up")
    embed_max_requests: int = _setting(256, _positive, "embeddings requests at once; more are answered 429")
    interactive_bytes: int = _setting(
        64 * KIB, _count, "bytes of an embeddings request's body up to which it is read before bulk work; 0: never"
    )

    def limits(self) -> Limits:
        """The engine's part."""
        return Limits(**{one.name: getattr(self, one.name) for one in fields(Limits)})

    def publishing_limits(self) -> PublishingLimits:
        """The part of publishing."""
        return PublishingLimits(**{one.name: getattr(self, one.name) for one in fields(PublishingLimits)})

    def embedding_limits(self) -> EmbeddingLimits:
        """The engine's part for the embeddings surface."""
        return EmbeddingLimits(**{one.name: getattr(self, one.name) for one in fields(EmbeddingLimits)})

    def streaming_limits(self) -> StreamingLimits:
        """The settings of the streaming surface."""
        return StreamingLimits(**{one.name: getattr(self, one.name) for one in fields(StreamingLimits)})


def environment_name(name: str) -> str:
    return f"SLUICE_{name.upper()}"


def default_text(setting: "Field[Any]") -> str:
    """The default as one would type it."""
    if setting.name == "score_replicas":
        return "usable cores"
    value = getattr(Settings(), setting.name)
    if isinstance(value, frozenset | tuple | dict):
        return ",".join(sorted(value)) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def read_settings(environment: Mapping[str, str], arguments: Mapping[str, str | None] | None = None) -> Settings:
    """Settings from texts. BadSetting names the first that cannot be."""
    values = {}
    for setting in fields(Settings):
        given = (arguments or {}).get(setting.name)
        text = given if given is not None else environment.get(environment_name(setting.name), "")
        if text.strip():
            values[setting.name] = _parsed(setting, text.strip())
    return Settings(**values)


def _parsed(setting: "Field[Any]", text: str) -> Any:
    try:
        return setting.metadata["parse"](text)
    except ValueError as error:
        raise BadSetting(f"{environment_name(setting.name)}={text}: {error}") from None

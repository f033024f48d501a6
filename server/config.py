"""Settings: each exists once, here, with its sentence and unit. `--help`, the settings table of the documentation and the checks
are made from this table.

A value comes from the command line, else from the environment (SLUICE_<NAME>, else the older name that some settings have), else
the default is used. An empty value means the default. A value that a setting cannot have ends the command with one line on stderr
and exit code 64.
"""

import difflib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from server import values
from server.values import UNSET

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
# The models that come with the server: beside this file where a wheel was installed (setup.py), else those of the checkout. The
# server reads them and never writes there.
INSTALLED_MODELS = Path(__file__).resolve().with_name("models")
SHIPPED_MODELS = INSTALLED_MODELS if INSTALLED_MODELS.is_dir() else Path(__file__).resolve().parent.parent / "models"
# What services of the same kind are set up with and this one has no use for. The server logs each that it finds.
IGNORED = ("DATASETS_REVISION", "MONGO_CACHE_DATABASE", "MONGO_QUEUE_DATABASE", "MONGO_URL", "WEB_CONCURRENCY")
PREFIX = "SLUICE_"
# What the commands that ask a server read, in the same environment.
CLIENT_NAMES = frozenset({"SLUICE_URL", "SLUICE_USER", "SLUICE_KEY"})
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class BadSetting(ValueError):
    """A setting has a value that it cannot have. The message names the setting and says what would work."""


def usable_cores() -> int:
    """Number of cores this process may use, by its affinity and the quota of its control group."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # this machine has no control groups, or the group has no quota ("max")
        return cores


def _setting(default: Any, parse: Callable[[str], Any], text: str, *, older: str = "") -> Any:
    """A field of Settings: its default, the function that makes a value from text, and its sentence with the unit.

    older  a second name in the environment
    """
    metadata = {"parse": parse, "text": text, "older": older}
    return field(default_factory=default, metadata=metadata) if callable(default) else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. A name ends in its unit."""

    host: str = _setting("127.0.0.1", str, "address that the server listens on", older="APP_HOSTNAME")
    port: int = _setting(
        9000,
        values.port,
        "port that the server listens on; with 0 the system chooses a free port, and the log names it",
        older="APP_PORT",
    )
    data_dir: Path = _setting(lambda: Path("data"), Path, "directory that holds everything the server writes")
    assets_dir: Path | None = _setting(
        None,
        values.optional(Path),
        "directory for the pictures and sound of previews; unset, it is `assets` in the data directory",
        older="ASSETS_DIRECTORY",
    )
    log_level: str = _setting(
        "INFO",
        values.level,
        "messages below this level are not logged: DEBUG, INFO, WARNING, ERROR or CRITICAL",
        older="LOG_LEVEL",
    )
    log_format: str = _setting(
        "text", values.one_of("text", "json"), "form of the log: text, or json, with which every line is one JSON object"
    )
    traces: str = _setting(
        "none",
        values.one_of("none", "console", "otlp"),
        "where a span of each request goes: none, console (standard output) or otlp (a collector of OpenTelemetry, which the "
        "variables OTEL_EXPORTER_OTLP_... name); needs the packages of `sluice[otel]`",
    )
    anonymous: frozenset[str] = _setting(
        lambda: frozenset({"embeddings", "preview"}),
        values.surfaces,
        "surfaces that need no credentials: embeddings, preview, streaming, metrics; with none every surface needs them",
    )
    hosts: frozenset[str] = _setting(
        frozenset,
        values.hosts,
        "names under which clients reach the server, separated by commas; localhost and addresses are always accepted, and every "
        "other name is refused. With none any name is accepted",
    )
    cors_origins: frozenset[str] = _setting(
        frozenset,
        values.origins,
        "origins whose pages may use the embeddings surface from a browser, separated by commas: https://app.example.org,... or *",
    )
    compat_status: bool = _setting(
        False, values.flag, "true answers routing errors and refused records with status 500, as ScienceOps did"
    )
    score_replicas: int = _setting(
        usable_cores, values.positive, "number of processes that run the models; the default is one for each usable core"
    )
    jobs_replicas: int = _setting(
        2,
        values.count,
        "number of jobs that the server does at once, each in a process of its own; of two or more, one takes quick jobs only, and "
        "with 0 it does the upkeep of datasets alone. One process more is for what requests wait for, such as checks of published "
        "models. All start when first needed",
    )
    query_replicas: int = _setting(
        2,
        values.positive,
        "number of processes that the queries of one user may take; they start with the first dataset. One more starts when others "
        "ask while these are taken",
    )
    query_memory_bytes: int = _setting(
        2 * GIB, values.positive, "bytes of data that one replica that runs queries may have; a query that needs more is refused"
    )
    query_queue: int = _setting(64, values.positive, "queries that may wait; the server answers a further one with 429")
    query_per_user: int = _setting(
        4, values.positive, "queries that one user may have open, the admin excepted; the server answers a further one with 429"
    )
    query_timeout_s: float = _setting(60.0, values.positive_seconds, "longest time limit that a query may ask for, in seconds")
    query_body_limit_bytes: int = _setting(8 * MIB, values.positive, "largest body of a query, in bytes after decoding")
    query_text_limit_bytes: int = _setting(MIB, values.positive, "longest text of a query, in bytes of UTF-8")
    query_rows: int = _setting(10_000, values.positive, "largest number of rows in an answer of one JSON value")
    query_result_limit_bytes: int = _setting(64 * MIB, values.positive, "largest answer of one JSON value, in bytes")
    query_stream_rows: int = _setting(1_000_000, values.positive, "largest number of rows in an answer of NDJSON or Arrow")
    replica_memory_bytes: int = _setting(
        0,
        values.count,
        "bytes of data that one replica that runs models may have; with 0 each has an equal part of three quarters of the memory",
    )
    native: bool = _setting(
        True, values.flag, "false reads and writes bulk streams without the compiled kernel, in the same bytes and more slowly"
    )
    model_faults: int = _setting(
        12,
        values.positive,
        "replicas that one version of a model may cost within 15 minutes; at this number the version goes offline for a while",
    )
    providers: tuple[str, ...] = _setting(
        ("cpu",),
        values.providers,
        "execution providers of onnxruntime for the models, the preferred one first, separated by commas: cuda,cpu; what they "
        "cannot do the processor does. A config.json may name others for its model",
    )
    max_streams: int = _setting(64, values.positive, "streams that may be open at once; the server answers a further one with 429")
    max_streams_per_user: int = _setting(
        16, values.positive, "streams that one user may have open at once; the server answers a further one with 429"
    )
    max_queued: int = _setting(
        1024, values.positive, "single predictions that may wait at once; the server answers a further one with 429"
    )
    window_bytes: int = _setting(
        4 * MIB,
        values.positive,
        "bytes of one stream that may be read but not yet answered; at this limit the server stops reading the stream",
    )
    line_limit_bytes: int = _setting(
        MIB,
        values.positive,
        "longest line of a stream or of rows, in bytes; a longer line gets an error line as its answer, or is refused as a row",
    )
    arrow_batch_limit_bytes: int = _setting(
        64 * MIB, values.positive, "largest record batch of an Arrow stream, and all its dictionaries together, in bytes"
    )
    max_websockets_per_user: int = _setting(
        100,
        values.positive,
        "WebSockets that one user, or all anonymous callers together, may have open; the server answers a further one with 429",
    )
    max_connections: int = _setting(
        4096,
        values.positive,
        "connections that may be open at once, or fewer if the system allows fewer open files; for a further one the server "
        "closes idle connections, else it answers 503",
    )
    head_timeout_s: float = _setting(
        30.0,
        values.positive_seconds,
        "seconds in which the head of a request must have come, from its first byte, or from the start of a new connection",
    )
    body_limit_bytes: int = _setting(8 * MIB, values.positive, "largest body of a single prediction, in bytes after decoding")
    decoded_limit_bytes: int = _setting(
        64 * GIB, values.positive, "largest stream, or upload of rows, with a content encoding, in bytes after decoding"
    )
    times: str = _setting(
        "go",
        values.one_of("go", "iso"),
        "how the lines of a stream write start_time and end_time, unless the request says `times=`: go (local time, as ScienceOps "
        "did) or iso (RFC 3339 in UTC)",
    )
    spill_limit_bytes: int = _setting(
        4 * GIB, values.positive, "bytes of results that the server keeps on disk for one stream whose client does not read"
    )
    spill_total_bytes: int = _setting(
        16 * GIB, values.positive, "bytes of results that the server keeps on disk for all streams together"
    )
    bodies_limit_bytes: int = _setting(
        GIB,
        values.positive,
        "memory for all bodies of single predictions and embeddings requests; each user, and all anonymous callers together, "
        "may take half of it; beyond that the server answers with 429",
    )
    disk_reserve_bytes: int = _setting(
        GIB,
        values.count,
        "bytes of the disk that uploads and spilled results leave free; the server refuses an upload with 507 instead",
    )
    idle_timeout_s: float = _setting(
        300.0, values.seconds, "seconds that an upload may pause before the server ends it; 0 means no limit"
    )
    stall_timeout_s: float = _setting(
        60.0,
        values.positive_seconds,
        "seconds that the server waits for a client that reads nothing of its answer; then it drops the connection, or cuts the "
        "stream if that cannot go on otherwise",
    )
    block_timeout_s: float = _setting(
        60.0, values.positive_seconds, "seconds that a replica may work on one block of records; then the server kills the replica"
    )
    check_timeout_s: float = _setting(120.0, values.positive_seconds, "seconds that the check of a published model may take")
    model_limit_bytes: int = _setting(2 * GIB, values.positive, "largest size of all files of a published model together, in bytes")
    upload_timeout_s: float = _setting(
        3600.0, values.positive_seconds, "seconds that the upload of a published model, or of rows, may take in all"
    )
    max_uploads_per_user: int = _setting(
        4,
        values.positive,
        "models of one owner that may be published at once, and uploads of rows that one user may have open, of 8 in all for each "
        "of the two; the server answers a further one with 429",
    )
    keep_versions: int = _setting(
        10, values.positive, "number of versions of a model that are kept, the newest ones; the active version is always kept"
    )
    user_models: int = _setting(
        200,
        values.positive,
        "models that one user may keep; the server refuses a further one with 507; the admin may keep any number",
    )
    user_versions: int = _setting(
        1000, values.positive, "versions of models that one user may keep, all models together; the admin may keep any number"
    )
    user_bytes: int = _setting(
        32 * GIB,
        values.positive,
        "bytes that the models of one user may take on disk, all together; the admin's may take any number",
    )
    dataset_versions: int = _setting(20, values.positive, "number of versions of a dataset that are kept, the newest ones")
    user_datasets: int = _setting(
        200,
        values.positive,
        "datasets that one user may keep; the server refuses a further one with 507; the admin may keep any number",
    )
    user_dataset_bytes: int = _setting(
        32 * GIB,
        values.positive,
        "bytes that the datasets of one user, with all their versions, may take on disk; the admin's may take any number",
    )
    request_timeout_s: float = _setting(
        60.0, values.positive_seconds, "seconds after which the server gives up a single prediction"
    )
    load_timeout_s: float = _setting(60.0, values.positive_seconds, "seconds that a request waits for a model that is loading")
    drain_s: float = _setting(
        30.0, values.seconds, "seconds that streams and requests may go on after SIGTERM; the server has ended two seconds later"
    )

    embedding_models: tuple[str, ...] = _setting(
        (), values.names, "embedding models to serve, separated by commas; with none the server serves those that models.txt lists"
    )
    model_aliases: dict[str, str] = _setting(
        dict,
        values.aliases,
        "other names of models for /v1/embeddings, separated by commas: text-embedding-3-small=all-MiniLM-L6-v2,...",
    )
    fetch_models: bool = _setting(True, values.flag, "false keeps `make run` from fetching the first embedding model of models.txt")
    embed_body_limit_bytes: int = _setting(
        32 * MIB, values.positive, "largest body of an embeddings request, in bytes after decoding"
    )
    embed_max_inputs: int = _setting(2048, values.positive, "largest number of texts in one embeddings request")
    embed_max_tokens: int = _setting(
        300_000, values.positive, "largest number of tokens in one embeddings request, counted after long texts were truncated"
    )
    embed_text_limit_bytes: int = _setting(MIB, values.positive, "longest text of an embeddings request, in bytes of UTF-8")
    refuse_token_ids: bool = _setting(
        False,
        values.flag,
        "true refuses token ids in embeddings requests: those of another tokenizer give vectors that look right and are wrong",
    )
    embed_timeout_s: float = _setting(
        120.0, values.positive_seconds, "seconds after which the server gives up an embeddings request"
    )
    embed_max_requests: int = _setting(
        256, values.positive, "embeddings requests that may be open at once; the server answers a further one with 429"
    )
    embed_max_requests_per_user: int = _setting(
        128,
        values.positive,
        "embeddings requests that one user, or all anonymous callers together, may have open; the server answers a further one "
        "with 429",
    )
    interactive_bytes: int = _setting(
        64 * KIB,
        values.count,
        "an embeddings request whose body has at most this many bytes goes ahead of bulk work; with 0 none does",
    )

    worker_queue: str = _setting(
        "datasets",
        values.queue,
        "which jobs `sluice worker` takes: datasets (lists of splits) or splits (first rows, Parquet, statistics)",
        older="WORKER_QUEUE",
    )
    worker_sleep_seconds: float = _setting(
        5.0,
        values.positive_seconds,
        "seconds after which, more or less, an idle runner looks for jobs that another process has added",
        older="WORKER_SLEEP_SECONDS",
    )
    max_jobs_per_dataset: int = _setting(
        2, values.positive, "quick jobs of one dataset that may be started at once", older="MAX_JOBS_PER_DATASET"
    )
    max_load_pct: int | None = _setting(
        None,
        values.optional(values.count),
        "no job is taken while the load of the machine is at this many per cent of its cores or above; 0 means no limit, and unset "
        "means 50 in a worker and no limit in the server",
        older="MAX_LOAD_PCT",
    )
    max_memory_pct: int | None = _setting(
        None,
        values.optional(values.count),
        "no job is taken while this many per cent of the memory or more are in use; 0 means no limit, and unset means 60 in a "
        "worker and 90 in the server",
        older="MAX_MEMORY_PCT",
    )
    max_age_long_seconds: int = _setting(
        120, values.whole, "seconds for which answers of preview with data may be kept by caches", older="MAX_AGE_LONG_SECONDS"
    )
    max_age_short_seconds: int = _setting(
        10, values.whole, "seconds for which reports and errors of preview may be kept by caches", older="MAX_AGE_SHORT_SECONDS"
    )
    rows_max_bytes: int = _setting(
        1_000_000,
        values.positive,
        "largest answer of `/rows`, in bytes; cells are cut and rows left out beyond it",
        older="ROWS_MAX_BYTES",
    )
    rows_max_number: int = _setting(100, values.positive, "most rows in an answer of `/rows`", older="ROWS_MAX_NUMBER")
    rows_min_number: int = _setting(
        1, values.count, "rows that an answer of `/rows` has however large they are; their cells are cut", older="ROWS_MIN_NUMBER"
    )
    hub_endpoint: str | None = _setting(
        None,
        values.optional(values.url),
        "address of a hub, where preview looks for datasets that are in no directory; unset, no hub is asked",
    )
    max_size_fallback: int = _setting(
        100_000_000,
        values.count,
        "bytes of the largest split that is fetched whole from the hub; of a larger one in csv, tsv, JSON lines or text the first "
        "8 MiB are fetched, and 0 means that none is fetched whole",
        older="MAX_SIZE_FALLBACK",
    )
    hf_token: str | None = _setting(None, values.optional(str), "token for the hub; it is sent to no other host", older="HF_TOKEN")
    datasets_enable_private: bool | None = _setting(
        None,
        values.optional(values.flag),
        "false hides private datasets from preview; unset or true shows them to those who may read them",
        older="DATASETS_ENABLE_PRIVATE",
    )

    project_upload_limit_bytes: int = _setting(64 * MIB, values.positive, "largest file that may be sent to a project, in bytes")
    project_upload_limit_rows: int = _setting(
        2_000_000, values.positive, "most rows of a file that is sent to a project; a sheet of a workbook has at most 1,048,576"
    )
    team_project_bytes: int = _setting(
        32 * GIB,
        values.positive,
        "bytes that all projects of one team may take on disk: uploads, datasets, models and attributions; the server refuses more "
        "with 507; those of the team `admin` may take any number",
    )
    jobs_per_team: int = _setting(
        50,
        values.positive,
        "jobs of the projects of one team, and files on their way to them, that may be unfinished; the server answers a further "
        "one with 429",
    )
    fit_parameters: int = _setting(400, values.positive, "most parameters that a graph of a project may have")
    hmc_gradients: int = _setting(
        14_000, values.positive, "gradients that the sampling of one fit may take; each is of all its chains at once"
    )
    export_draws: int = _setting(100, values.positive, "draws of a fitted model that its published graph has, of 400 at most")
    job_limit_s: float = _setting(3600.0, values.positive_seconds, "seconds that the fit of a model, or an attribution, may take")

    datasets_dir: tuple[Path, ...] = _setting(
        (), values.roots, "further directories with datasets, which the server only reads, separated by colons"
    )
    datasets_watch: bool = _setting(True, values.flag, "true reads a cached dataset again when its files have changed")
    public_url: str | None = _setting(
        None, values.optional(values.url), "address under which clients reach the server; unset, it is what each request names"
    )
    webhook_secret: str | None = _setting(
        None, values.optional(str), "what the header X-Webhook-Secret of hooks of preview must be; unset, hooks need no secret"
    )
    preview_on_demand: bool = _setting(True, values.flag, "true reads a dataset when it is first asked for")
    preview_not_found_status: int = _setting(
        404, values.status, "status of the answers of preview that say that something is not found or not ready: 404 or 400"
    )
    preview_status_case: str = _setting(
        "upper", values.one_of("upper", "lower"), "letters of the status words in the reports of preview: upper or lower"
    )
    preview_tracebacks: str = _setting(
        "admin", values.one_of("admin", "all", "none"), "who sees where a job of preview failed: admin, all or none"
    )
    preview_max_record_bytes: int = _setting(
        16 * MIB, values.positive, "bytes of the longest line, record of csv or item of JSON that preview reads"
    )
    preview_max_decompressed_bytes: int = _setting(
        GIB, values.positive, "bytes that preview reads of one compressed file, after decompression"
    )
    preview_max_prepare_bytes: int = _setting(
        5 * GIB, values.count, "bytes of the largest split that is made into Parquet files; with 0 none is"
    )

    def part(self, options_class: type[Options]) -> Options:
        """The settings for a class such as EngineLimits: those that have the names of its fields."""
        return options_class(**{one.name: getattr(self, one.name) for one in fields(options_class)})


def environment_name(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def default_text(setting: "Field[Any]") -> str:
    """The default, as a person would type it."""
    if setting.name == "score_replicas":
        return "usable cores"
    value = getattr(Settings(), setting.name)
    if value is None:
        return UNSET
    if isinstance(value, frozenset | tuple | dict):
        return ",".join(sorted(value)) or "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def read_settings(environment: Mapping[str, str], arguments: Mapping[str, str | None] | None = None) -> Settings:
    """Settings from texts. BadSetting names the first one with a value that it cannot have."""
    values = {}
    for setting in fields(Settings):
        given = (arguments or {}).get(setting.name)
        name = _name_in(environment, setting) if given is None else environment_name(setting.name)
        text = (environment.get(name, "") if given is None else given).strip()
        if text:
            values[setting.name] = _parsed(setting, name, text)
    return Settings(**values)


def _name_in(environment: Mapping[str, str], setting: "Field[Any]") -> str:
    """The name under which the environment has a value for this setting: its older name only if its own has none."""
    own, older = environment_name(setting.name), setting.metadata["older"]
    return older if older and not environment.get(own, "").strip() else own


def ignored_names(environment: Mapping[str, str]) -> list[str]:
    """The names of IGNORED that have a value in the environment."""
    return [name for name in IGNORED if environment.get(name, "").strip()]


def unknown_names(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that look like settings of ours and are none, each with the nearest name that is one."""
    known = sorted({environment_name(setting.name) for setting in fields(Settings)} | CLIENT_NAMES)
    ours = sorted(name for name in environment if name.startswith(PREFIX) and environment[name].strip() and name not in known)
    words = [name.removeprefix(PREFIX) for name in known]  # names are not alike because all begin alike
    found = {name: difflib.get_close_matches(name.removeprefix(PREFIX), words, 1) for name in ours}
    return {name: PREFIX + nearest[0] if nearest else None for name, nearest in found.items()}


def _parsed(setting: "Field[Any]", name: str, text: str) -> Any:
    try:
        return setting.metadata["parse"](text)
    except ValueError as error:
        raise BadSetting(f"{name}={text}: this value {error}. What it sets: {setting.metadata['text']}") from None

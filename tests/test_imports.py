"""Imports go one way: server -> handlers -> surfaces of the engine -> engine.py -> repository -> replicas -> the bottom.

No surface imports another, and engine/tasks knows nothing of the engine but columns, errors and frames.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import ROOT

# What computes: never in the server process.
NUMERIC = {"numpy", "onnx", "onnxruntime", "tokenizers", "scipy", "pyarrow", "duckdb", "sqlglot"}
NUMERIC |= {"PIL", "yaml", "orjson", "openpyxl"}
SQLITE = {"aiosqlite", "sqlite3"}
# Layer -> what it must not import, by first names of modules.
FORBIDDEN = {
    "server": NUMERIC | SQLITE | {"tests", "models"},
    "handlers": NUMERIC | SQLITE | {"server", "tests", "models"},
    "engine": NUMERIC | {"server", "handlers", "tests", "models", "aiohttp"},
    "engine/tasks": SQLITE | {"server", "handlers", "tests", "models", "aiohttp", "asyncio"},
}
# The files and folders of `engine`, from top to bottom: each may import what is below it, and those at the bottom each other. The
# first are the surfaces. What is not here yet comes with its surface.
ENGINE_SURFACES = {"embeddings", "preview", "projects", "query", "streaming", "tensors"}
BOTTOM = {
    "accounts",
    "columns",
    "disk",
    "errors",
    "files",
    "frames",
    "gates",
    "heap",
    "histograms",
    "key_watch",
    "keys",
    "metrics",
    "pieces",
}
BOTTOM |= {"receiving", "roles", "spill", "store", "teams", "times", "tokens", "uses"}
ENGINE_LEVELS = [ENGINE_SURFACES, {"engine"}, {"ingestion"}, {"datasets"}, {"repository"}, {"jobs"}, {"replicas"}, BOTTOM]
# All of `engine` that a replica may know.
SHARED_WITH_TASKS = {"engine.columns", "engine.errors", "engine.frames"}
# What the files of engine/tasks may import of engine.tasks: those that all families share, a family beside itself, and publishing.
SHARED_BY_FAMILIES = {"codec", "families", "pixels", "reports", "runtime", "stages", "stopping", "yielding"}
FAMILY_IMPORTS = SHARED_BY_FAMILIES | {"scoring"}
PUBLISHING_IMPORTS = FAMILY_IMPORTS | {"embedding"}
# Ingestion writes what queries read: segments, with their word indexes.
INGESTION_IMPORTS_OF_QUERY = {"engine.tasks.query", "engine.tasks.query.segments", "engine.tasks.query.words"}
# Preview prepares segments as ingestion writes them.
PREVIEW_IMPORTS_OF_OTHERS = INGESTION_IMPORTS_OF_QUERY | {"engine.tasks.ingestion", "engine.tasks.ingestion.segment_files"}
# The program that reads tables for the command line reads them as `dataset import` does.
TABLES_IMPORTS_OF_OTHERS = {"engine.tasks.ingestion.files"}
IMPORTS_OF_OTHERS = {
    "ingestion": INGESTION_IMPORTS_OF_QUERY,
    "preview": PREVIEW_IMPORTS_OF_OTHERS,
    "tables": TABLES_IMPORTS_OF_OTHERS,
}
# What a query loads and a replica of the pool `jobs` must not: half a second and 60 MB.
QUERY_LIBRARIES = {"duckdb", "sqlglot"}


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "engine/tasks" if parts[:2] == ("engine", "tasks") else parts[0]


FILES = sorted(path for folder in ("server", "handlers", "engine") for path in (ROOT / folder).rglob("*.py"))
TASK_FILES = [path for path in FILES if layer(path) == "engine/tasks"]
ENGINE_FILES = [path for path in FILES if layer(path) == "engine" and path.name != "__init__.py"]
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def imported(path: Path) -> Iterator[str]:
    """Full name of every module that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}:{node.lineno}: imports are absolute here"
            assert node.module is not None
            yield node.module
            # `from engine import frames` means engine.frames.
            if (ROOT / node.module.replace(".", "/")).is_dir():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_layer_does_not_import_what_is_above_it_or_not_its_work(path: Path) -> None:
    found = {name for name in imported(path) if name.split(".")[0] in FORBIDDEN[layer(path)]}
    assert not found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_server_process_starts_replicas_and_never_imports_them(path: Path) -> None:
    if layer(path) != "engine/tasks":
        assert not {name for name in imported(path) if name.startswith("engine.tasks")}


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_replica_knows_columns_errors_and_frames_of_the_engine_alone(path: Path) -> None:
    ours = {name for name in imported(path) if name.startswith("engine.") and not name.startswith("engine.tasks")}
    assert ours <= SHARED_WITH_TASKS


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_family_of_tasks_imports_scoring_and_what_all_share_and_no_other_family(path: Path) -> None:
    inside = path.relative_to(ROOT / "engine" / "tasks").parts
    names = set(imported(path)) - IMPORTS_OF_OTHERS.get(inside[0], set())
    found = {name.split(".")[2] for name in names if name.startswith("engine.tasks.")}
    if len(inside) == 1:
        assert found <= SHARED_BY_FAMILIES
    else:
        assert found <= {inside[0]} | (PUBLISHING_IMPORTS if inside[0] == "publishing" else FAMILY_IMPORTS)


@pytest.mark.parametrize("family", ["ingestion", "preview"])
def test_ingestion_and_preview_load_no_library_of_queries(family: str) -> None:
    program = f"import sys, engine.tasks.{family}; print(*sorted({QUERY_LIBRARIES!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def engine_unit(module: str) -> str:
    """The file or folder of `engine` that a module belongs to; empty for any other module."""
    folder, _, rest = module.partition(".")
    return rest.partition(".")[0] if folder == "engine" else ""


@pytest.mark.parametrize("path", ENGINE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_parts_of_the_engine_import_downwards_only_and_no_surface_another(path: Path) -> None:
    own = engine_unit(".".join(path.relative_to(ROOT).with_suffix("").parts))
    [level] = [i for i, units in enumerate(ENGINE_LEVELS) if own in units]
    below = set().union(*ENGINE_LEVELS[level + 1 :]) | ({own} if level < len(ENGINE_LEVELS) - 1 else ENGINE_LEVELS[-1])
    assert {engine_unit(name) for name in imported(path)} - {""} <= below


def handlers_unit(module: str) -> str:
    """The surface that a module of `handlers` belongs to, `http` for what all share; empty for any other module."""
    folder, _, rest = module.partition(".")
    return rest.partition(".")[0] if folder == "handlers" else ""


@pytest.mark.parametrize("path", [path for path in FILES if layer(path) == "handlers"], ids=lambda path: path.name)
def test_no_surface_of_handlers_imports_another(path: Path) -> None:
    own = handlers_unit(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert {handlers_unit(name) for name in imported(path)} <= {"", "http", own}


@pytest.mark.parametrize("path", sorted((ROOT / "handlers" / "http").glob("*.py")), ids=lambda path: path.name)
def test_what_all_surfaces_share_imports_no_surface(path: Path) -> None:
    surfaces = {f"engine.{name}" for name in ENGINE_SURFACES}
    assert not {name for name in imported(path) if ".".join(name.split(".")[:2]) in surfaces}


def test_one_folder_speaks_sqlite() -> None:
    assert {str(path.parent.relative_to(ROOT)) for path in FILES if SQLITE & set(imported(path))} == {"engine/store"}


def test_one_file_of_the_replicas_imports_the_fast_json_libraries() -> None:
    speakers = [name for path, name in zip(FILES, NAMES, strict=True) if {"orjson", "ujson"} & set(imported(path))]
    assert [name for name in speakers if name.startswith("engine/tasks/")] == ["engine/tasks/codec.py"]


def test_one_file_imports_onnxruntime_and_switches_its_telemetry_off_first() -> None:
    assert [name for path, name in zip(FILES, NAMES, strict=True) if "onnxruntime" in imported(path)] == ["engine/tasks/runtime.py"]


def test_no_numeric_library_comes_into_the_server_process_by_another_way() -> None:
    program = f"import sys, server.serve, server.cli; print(*sorted({NUMERIC!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

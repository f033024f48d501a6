"""Builds the example models and fetches the embedding models: `python models/build.py [--first | --listed | NAME ...]`.

An example model is trained on a part of its data and written beside this file. Then the written files are loaded and checked:
quality on the rest of the data, agreement with scikit-learn, and batches that answer as single records do. Without names all
committed models are built; `credit` and `toxicity` are built only when they are named.

An embedding model is built from packages, unless it is already there: the first model of models.txt (`--first`, which `make run`
uses), all models of models.txt (`--listed`), or the models named here. README.md says where everything comes from.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from catalogue import EMBEDDINGS, Embedding
from engine.repository.listed import LIST_FILE, read_names
from fetching import OWNER, Place, Unbuilt, provide
from packages import Unfetched
from server.commands.usage import EXIT_USAGE
from server.config import BadSetting, Settings, read_settings

HERE = Place(root=Path(__file__).parent, downloads=Path(__file__).parent.parent / "build" / "packages")

# Module and function of each example model. The modules need scikit-learn, which only the build environment has.
COMMITTED = {
    "HelloWorld": "texts.hello_world",
    "iris": "tables.iris",
    "wine": "tables.wine",
    "diabetes": "tables.diabetes",
    "penguins": "tables.penguins",
    "language": "texts.language",
}
ON_DEMAND = {
    "credit": "tables.credit",
    "toxicity": "texts.toxicity",
}
EXAMPLES = COMMITTED | ON_DEMAND

# Expected reasons why a model is missing: the person at the terminal reads one line, no traceback.
FAULTS = (Unfetched, Unbuilt, OSError)


def main(arguments: Sequence[str] | None = None, *, place: Place = HERE, embeddings: Sequence[Embedding] = EMBEDDINGS) -> int:
    """Do what the command line asks; returns the exit code."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime, which a build imports later, reads it then
    known = {embedding.name: embedding for embedding in embeddings}
    options = _options(arguments, known)
    try:
        if options.first:
            return _first(read_settings(os.environ), place, known)
        if options.listed:
            return _listed(read_settings(os.environ), place, known)
        return _named(options.names or list(COMMITTED), options.weights, place, known)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        print(
            f'{error.name} is not installed here; `make models MODELS="..."` builds in an environment that has it', file=sys.stderr
        )
        return 1


def _options(arguments: Sequence[str] | None, known: dict[str, Embedding]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the example models, and fetch embedding models.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*EXAMPLES, *known)))
    parser.add_argument(
        "--first", action="store_true", help=f"fetch the first embedding model of {LIST_FILE}; only warn if it cannot be fetched"
    )
    parser.add_argument("--listed", action="store_true", help=f"fetch every embedding model of {LIST_FILE}")
    parser.add_argument("--weights", choices=("fp32", "8bit"), default="fp32", help="8bit builds the embedding model NAME-8bit")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in EXAMPLES and name not in known:
            parser.error(f"there is no model {name!r}; choose from {', '.join((*EXAMPLES, *known))}")
    if options.first + options.listed + bool(options.names) > 1:
        parser.error("give only one of --first, --listed and names")
    if options.weights == "8bit" and not (options.names and known.keys() >= set(options.names)):
        parser.error(f"--weights 8bit works only with the names of these models: {', '.join(known)}")
    return options


# The listed embedding models


def _listed_names(settings: Settings, place: Place) -> list[str]:
    """The listed names, without our owner. A name with another owner stays as it is, and is not one that we can fetch."""
    roots = (place.root, settings.data_dir / "models")
    names = settings.embedding_models or [name for root in roots for name in read_names(root / LIST_FILE)]
    return [name.removeprefix(f"{OWNER}/") for name in dict.fromkeys(names)]


def _first(settings: Settings, place: Place, known: dict[str, Embedding]) -> int:
    """Fetch the first listed model unless it is there. If it cannot be fetched, only warn: the server starts without it."""
    names = _listed_names(settings, place)[:1] if settings.fetch_models else []
    for embedding in (known[name] for name in names if name in known):
        try:
            if provide(embedding, place):
                print(_made(embedding.name, place, True), flush=True)
        except (Unfetched, OSError) as error:
            _complain(f"warning: {embedding.name} is missing and will not be served", error, "; `make models` fetches it later")
        except Unbuilt as error:
            _complain(embedding.name, error)
            return 1
    return 0


def _listed(settings: Settings, place: Place, known: dict[str, Embedding]) -> int:
    """Fetch all listed models; prints one line for each, also for a model that we cannot fetch."""

    def make(name: str) -> str:
        return _make(name, place, known) if name in known else f"{name}: not a model that can be fetched"

    return _each(_listed_names(settings, place), make)


def _named(names: Sequence[str], weights: str, place: Place, known: dict[str, Embedding]) -> int:
    """Make the named models; prints one line for each."""
    if weights == "fp32":
        return _each(names, lambda name: _make(name, place, known))
    from eightbit import name_8bit, provide_8bit  # needs onnx_ir, which only the build environment has

    return _each(names, lambda name: _made(name_8bit(known[name]), place, provide_8bit(known[name], place)))


# One after the other


def _each(names: Sequence[str], make: Callable[[str], str]) -> int:
    """Make each model and print its line. A model that fails does not stop the others, but makes the exit code 1."""
    code = 0
    for name in names:
        try:
            print(make(name), flush=True)
        except FAULTS as error:
            _complain(name, error)
            code = 1
    return code


def _make(name: str, place: Place, known: dict[str, Embedding]) -> str:
    if name in known:
        return _made(name, place, provide(known[name], place))
    return _example(name, place)


def _made(name: str, place: Place, was_missing: bool) -> str:
    num_bytes = (place.version(name) / "model.onnx").stat().st_size
    return f"{OWNER}/{name}, {num_bytes:,} bytes, {'made now' if was_missing else 'already there'}"


def _example(name: str, place: Place) -> str:
    import folder

    module, _, function = EXAMPLES[name].partition(".")
    built: Any = getattr(importlib.import_module(module), function)()
    return folder.check(folder.write(built, place.root), built)


def _complain(about: str, error: Exception, advice: str = "") -> None:
    reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)
    print(f"{about}: {reason}{advice}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

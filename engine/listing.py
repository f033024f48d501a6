"""Which embedding models are served by name: models.txt of both roots, or the names that a setting gives in their place.

One name a line, `name` or `owner/name`, `#` for comments. A name without a usable model is left out, with one warning. Knows
nothing of requests or of replicas.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.accounts import Caller
from engine.repository import Model, Repository, Version, owns

log = logging.getLogger("sluice.listing")

LIST_FILE = "models.txt"
# What clients put before the names of models they know from a hub.
PREFIX = "sentence-transformers/"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """An embedding model as one caller sees it.

    name  unique among those that the caller sees: the model's own or, where that is taken, `owner/name`
    """

    name: str
    version: Version

    @property
    def title(self) -> str:
        """owner/name"""
        return self.version.title

    @property
    def dim(self) -> int:
        return self.version.config.dim or 0


class ListedModels:
    """The listed models, in the order of the lists.

    instead_of_files  names that replace the lists; empty for the lists
    aliases           other name -> name of a listed model
    """

    def __init__(
        self, repository: Repository, *, instead_of_files: Sequence[str] = (), aliases: Mapping[str, str] | None = None
    ) -> None:
        self._repository = repository
        self._instead_of_files = instead_of_files
        self._aliases = aliases or {}
        self._places: dict[tuple[str, str], None] = {}  # (owner, name), in order

    def read(self) -> None:
        """Look at the lists again. Blocks on files: at start-up, or in a thread."""
        names = self._instead_of_files or [name for root in self._repository.roots for name in read_names(root / LIST_FILE)]
        places: dict[tuple[str, str], None] = {}
        for name in dict.fromkeys(names):
            if model := self._resolve(name, names):
                places[model.owner, model.name] = None
            else:
                log.warning("embedding model left out name=%s reason=%r", name, self._why_left_out(name))
        self._places = places
        known = {name for owner, model in places for name in (model, f"{owner}/{model}")}
        for alias, name in self._aliases.items():
            if name.removeprefix(PREFIX) not in known:
                log.warning("alias left out alias=%s reason=%r", alias, f"no model '{name}' is listed")

    def _resolve(self, listed: str, names: Sequence[str]) -> Model | None:
        """The model of one line, if it can be used.

        A bare name that several owners have means the one that ships, else the first that no line names in full.
        """
        owner, _, name = listed.rpartition("/")
        models = [model for model in self._repository.models() if model.name == name and owner in ("", model.owner)]
        models = [model for model in models if _usable(model)]
        return min(models, key=lambda model: (not model.shipped, model.title in names), default=None)

    def _models(self) -> Iterator[tuple[Model, Version]]:
        """The listed models as they are now, with the version that answers."""
        for owner, name in self._places:
            model = self._repository.find(owner, name)
            if model is not None and (version := _usable(model)):
                yield model, version

    @property
    def first(self) -> Version | None:
        """The first listed model: every replica opens it at its start."""
        return next((version for _, version in self._models()), None)

    def visible(self, caller: Caller | None) -> list[ListedModel]:
        """The listed models that are shared, or the caller's own."""
        found: dict[str, Version] = {}
        for model, version in self._models():
            if model.shared or (caller is not None and owns(caller, model.owner)):
                found[model.title if model.name in found else model.name] = version
        return [ListedModel(name, version) for name, version in found.items()]

    def accepted(self, caller: Caller | None) -> dict[str, ListedModel]:
        """The visible models by every name the OpenAI shape takes: theirs, `owner/name`, `sentence-transformers/name`, aliases.

        An alias is the operator's word: a model that somebody names like one is reached by its `owner/name`.
        """
        by_name: dict[str, ListedModel] = {}
        for model in self.visible(caller):
            for name in (model.name, model.title, PREFIX + model.name):
                by_name.setdefault(name, model)
        return by_name | {alias: by_name[name] for alias, name in self._aliases.items() if name in by_name}

    def _why_left_out(self, listed: str) -> str:
        owner, _, name = listed.rpartition("/")
        if any(model.name == name and owner in ("", model.owner) for model in self._repository.models()):
            return "it is no embedding model, or its files cannot be used"
        folders = [folder for root in self._repository.roots for folder in root.glob(f"{owner or '*'}/{name}")]
        if any((folder / "config.json").is_file() for folder in folders):
            return "no weights: fetch them with `make models`"
        return f"no such model: give it one with `python -m server model import DIR --name {name}`"

    # What is published becomes listed

    def add(self, model: Model) -> None:
        """List a model at the end of the written list, unless it is listed. Blocks on the file."""
        if (model.owner, model.name) in self._places:
            return
        is_taken = any(other.name == model.name and other.title != model.title for other in self._repository.models())
        append_name(self._repository.writable_root, model.title if is_taken else model.name)
        self.read()

    def remove(self, model: Model) -> None:
        """Take a model that is about to be deleted off the written list. Blocks on the file."""
        path = self._repository.writable_root / LIST_FILE
        with _alone(path):
            names = read_names(path)
            gone = {name for name in names if (found := self._resolve(name, names)) and found.title == model.title}
            if gone:
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                _replace(path, "".join(line for line in lines if _name(line) not in gone))
        if gone:
            self.read()


def _usable(model: Model | None) -> Version | None:
    """The active version, if it is an embedding model whose files can be used."""
    return model.active if model is not None and model.active is not None and model.active.config.task == "embed" else None


def read_names(path: Path) -> list[str]:
    """The names in one list; none without the file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [name for line in lines if (name := _name(line))]


def _name(line: str) -> str:
    return line.partition("#")[0].strip()


def append_name(root: Path, name: str) -> None:
    """Add a line to the list of a root, unless it is there."""
    path = root / LIST_FILE
    with _alone(path):
        if name not in read_names(path):
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            _replace(path, text + ("" if not text or text.endswith("\n") else "\n") + name + "\n")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One change of a list at a time, whoever makes it: the server's threads, and the command `model import` beside it."""
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, text: str) -> None:
    """Write beside, fsync, rename."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)

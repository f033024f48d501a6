"""Listed models: the embedding models that a request may ask for by name, and in which order they are listed.

Each root has a list, models.txt; a setting may give names that replace the lists of both roots. A line is `name` or `owner/name`,
and `#` begins a comment. A name that has no usable model is left out. Knows nothing of requests or of replicas.
"""

import contextlib
import fcntl
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import files
from engine.accounts import ADMIN, Caller
from engine.repository.index import CONFIG_FILE, Model, Repository, Version, owns

log = logging.getLogger("sluice.listed")

LIST_FILE = "models.txt"
# Clients put this before the names of models that they know from a hub.
PREFIX = "sentence-transformers/"
NOT_FETCHED = "its weights are missing: fetch them with `make models`"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """An embedding model as one caller sees it.

    name  the model's own name if the model ships or belongs to the admin, and no earlier model of the list has that name; else
          `owner/name`. So no two models that one caller sees have the same name, and no user can take the name of a known model
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

    instead_of_files  names that replace the lists in the files; empty when the files count
    aliases           alias -> name of a listed model
    """

    def __init__(
        self, repository: Repository, *, instead_of_files: Sequence[str] = (), aliases: Mapping[str, str] | None = None
    ) -> None:
        self._repository = repository
        self._instead_of_files = instead_of_files
        self._aliases = aliases or {}
        self._listed: list[tuple[str, str]] = []  # (owner, name), in the order of the lists

    def read(self) -> None:
        """Read the lists again. Blocks on files: call it at start-up, or in a thread."""
        names = self._instead_of_files or [name for root in self._repository.roots for name in read_names(root / LIST_FILE)]
        listed: dict[tuple[str, str], None] = {}  # a set that keeps its order
        for name in dict.fromkeys(names):
            if model := self._resolve(name, names):
                listed[model.owner, model.name] = None
            else:
                self._note_left_out(name)
        self._listed = list(listed)
        self._warn_of_aliases_without_a_model()

    @property
    def first(self) -> Version | None:
        """The first listed model, which every replica opens when it starts."""
        return next((version for _, version in self._usable_models()), None)

    def visible(self, caller: Caller | None) -> list[ListedModel]:
        """The listed models that are shared or belong to the caller."""
        found: dict[str, Version] = {}
        for model, version in self._usable_models():
            if model.shared or (caller is not None and owns(caller, model.owner)):
                found[model.name if may_use_bare_name(model) and model.name not in found else model.title] = version
        return [ListedModel(name, version) for name, version in found.items()]

    def accepted(self, caller: Caller | None) -> dict[str, ListedModel]:
        """The visible models by every name that the OpenAI shape accepts.

        These are the model's name, `owner/name`, the aliases and, for a model that has a bare name, `sentence-transformers/name`.
        An alias takes precedence over a model with the same name, because the operator of the server chose it; `owner/name` still
        means that model.
        """
        by_name: dict[str, ListedModel] = {}
        for model in self.visible(caller):
            prefixed = () if "/" in model.name else (PREFIX + model.name,)
            for name in (model.name, model.title, *prefixed):
                by_name.setdefault(name, model)
        return by_name | {alias: by_name[name] for alias, name in self._aliases.items() if name in by_name}

    def find(self, caller: Caller | None, name: str | None) -> ListedModel | None:
        """The model that `accepted` has under this name; without a name the first visible one. None if there is none."""
        return next(iter(self.visible(caller)), None) if name is None else self.accepted(caller).get(name)

    def _usable_models(self) -> Iterator[tuple[Model, Version]]:
        """The listed models that can be used now, each with its active version."""
        for owner, name in self._listed:
            model = self._repository.find(owner, name)
            if model is not None and (version := _usable_version(model)):
                yield model, version

    def _resolve(self, line: str, lines: Sequence[str]) -> Model | None:
        """The model that a line of the lists means, or None when no such model can be used.

        When several owners have a model of a bare name, the line means the one that ships, then the admin's, else the first one
        that no other line names in full. While a model that ships has no weights, its bare name means no model of another user.
        """
        models = [model for model in self._named(line) if _usable_version(model)]
        if "/" not in line and self._ships(line):
            models = [model for model in models if may_use_bare_name(model)]
        return min(models, key=lambda model: (not model.shipped, not may_use_bare_name(model), model.title in lines), default=None)

    def _ships(self, name: str) -> bool:
        """Whether a model of this name ships with the server, with its weights or without them. Blocks on files."""
        return any(any(root.glob(f"*/{name}/{CONFIG_FILE}")) for root in self._repository.roots[:-1])

    def _named(self, line: str) -> list[Model]:
        """The models that have the name, or the owner and name, in a line of the lists."""
        owner, _, name = line.rpartition("/")
        return [model for model in self._repository.models() if model.name == name and owner in ("", model.owner)]

    def _note_left_out(self, line: str) -> None:
        """Log that a model is left out. One that we list ourselves and nobody has fetched is no fault, so it is no warning."""
        reason = self._why_left_out(line)
        is_expected = reason == NOT_FETCHED and not self._instead_of_files and self._ships(line.rpartition("/")[2])
        log.log(logging.DEBUG if is_expected else logging.WARNING, "embedding model left out name=%s reason=%r", line, reason)

    def _why_left_out(self, line: str) -> str:
        owner, _, name = line.rpartition("/")
        if any(owner or may_use_bare_name(model) for model in self._named(line)):
            return "it is not an embedding model, or its files cannot be used"
        folders = [folder for root in self._repository.roots for folder in root.glob(f"{owner or '*'}/{name}")]
        if any((folder / CONFIG_FILE).is_file() for folder in folders):
            return NOT_FETCHED
        return f"there is no such model: import one with `sluice model import DIR --name {name}`"

    def _warn_of_aliases_without_a_model(self) -> None:
        names = {name for owner, model in self._listed for name in (model, f"{owner}/{model}")}
        for alias, name in self._aliases.items():
            if name.removeprefix(PREFIX) not in names:
                log.warning("alias left out alias=%s reason=%r", alias, f"no model '{name}' is listed")

    # Publishing lists a model, deleting takes it off the list

    def enter(self, owner: str, name: str) -> str | None:
        """Add a model that is about to be published at the end of the writable root's list. Blocks on the file.

        returns  the line that was added, or None if the list has the model already; `read` makes the server list it
        """
        if (owner, name) in self._listed:
            return None
        is_taken = any(other.name == name and other.owner != owner for other in self._repository.models())
        model = self._repository.find(owner, name)
        is_bare = (owner == ADMIN or (model is not None and model.shipped)) and not is_taken
        line = name if is_bare else f"{owner}/{name}"
        return line if append_name(self._repository.writable_root, line) else None

    def withdraw(self, line: str) -> None:
        """Take a name off the writable root's list again, because its model was not published after all. Blocks on the file."""
        path = self._repository.writable_root / LIST_FILE
        with _locked(path):
            _remove_lines(path, {line})

    def remove(self, model: Model) -> None:
        """Take a model that is about to be deleted off the writable root's list. Blocks on the file."""
        path = self._repository.writable_root / LIST_FILE
        with _locked(path):
            names = read_names(path)
            gone = {name for name in names if (found := self._resolve(name, names)) and found.title == model.title}
            if gone:
                _remove_lines(path, gone)
        if gone:
            self.read()


def may_use_bare_name(model: Model) -> bool:
    """Whether a request may leave out the owner. Clients know names from a hub, and only the operator decides what they mean."""
    return model.shipped or model.owner == ADMIN


def _usable_version(model: Model) -> Version | None:
    """The active version, if the model is an embedding model whose files can be used."""
    return model.active if model.active is not None and model.active.config.is_embedding else None


def read_names(path: Path) -> list[str]:
    """The names in one list; none when the file is missing or cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [name for line in lines if (name := _without_comment(line))]


def _remove_lines(path: Path, names: Collection[str]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    files.replace_text(path, "".join(line for line in lines if _without_comment(line) not in names))


def _without_comment(line: str) -> str:
    return line.partition("#")[0].strip()


def append_name(root: Path, name: str) -> bool:
    """Add a name to the list of a root, unless the list has it already, which is False."""
    path = root / LIST_FILE
    with _locked(path):
        if name in read_names(path):
            return False
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        files.replace_text(path, text + ("" if not text or text.endswith("\n") else "\n") + name + "\n")
        return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Allow one change of a list at a time, by a thread of the server or by a `model import` that runs beside the server."""
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

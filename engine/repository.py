"""The model repository: which models there are, in which versions, and who may use them.

Reads folders `<root>/<owner>/<name>/<version>/` and their config.json. Knows nothing of HTTP, of graphs, or of whether a model is
loaded. A folder that cannot be used is listed with its fault and never stops the others.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.accounts import OWNER_NAME, Caller
from engine.errors import EngineError
from engine.model_config import ModelConfig, parse_config
from engine.store import ModelOverrides

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")

CONFIG_FILE = "config.json"
GRAPH_FILE = "model.onnx"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """One kept version of a model whose config.json can be used.

    folder        holds model.onnx and what goes with it; config is the version's own, or the model's
    published_at  when the graph was written, seconds since 1970
    """

    number: int
    folder: Path
    config: ModelConfig
    published_at: int = 0

    @property
    def title(self) -> str:
        """owner/name"""
        return f"{self.config.owner}/{self.config.name}"


@dataclass(slots=True)
class Model:
    """All kept versions of one model.

    versions        number -> version that can be used
    faults          number -> why that version cannot be used; a sentence without a path
    active_version  the one that answers; may be one with a fault
    shared          whether others may use it
    shipped         part of it came with the server and cannot be changed
    """

    owner: str
    name: str
    versions: dict[int, Version]
    faults: dict[int, str]
    active_version: int
    shared: bool
    shipped: bool

    @property
    def title(self) -> str:
        """owner/name"""
        return f"{self.owner}/{self.name}"

    @property
    def active(self) -> Version | None:
        """None when the active version has a fault."""
        return self.versions.get(self.active_version)

    @property
    def numbers(self) -> list[int]:
        """Every kept version, oldest first."""
        return sorted(self.versions.keys() | self.faults.keys())

    @property
    def latest_version(self) -> int:
        return self.numbers[-1]

    @property
    def description(self) -> str:
        return self.active.config.description if self.active else ""

    def forget(self, number: int) -> None:
        """Requests for this version find none from now on."""
        self.versions.pop(number, None)
        self.faults.pop(number, None)


@dataclass(slots=True)
class Repository:
    """The models of several roots. The last root is the one the server writes (data/models); the others are shipped."""

    roots: Sequence[Path]
    _models: dict[tuple[str, str], Model] = field(default_factory=dict)

    def scan(self, states: Mapping[tuple[str, str], ModelOverrides] | None = None) -> None:
        """Look at all roots again. Blocks on files: at start-up, or in a thread. Readers see the old models, then the new ones.

        states  (owner, name) -> what was changed at run time (Store.list_model_overrides)
        """
        states = states or {}
        found = (self._read(owner, name, states.get((owner, name), ModelOverrides())) for owner, name in self.names())
        self._models = {(model.owner, model.name): model for model in found if model is not None}

    def names(self) -> list[tuple[str, str]]:
        """(owner, name) of every model that has a folder, or had one at the last look. Blocks on files."""
        return sorted({name for root in self.roots for name in _names(root)} | self._models.keys())

    def read(self, owner: str, name: str, state: ModelOverrides) -> Model | None:
        """Look at one model again; nobody sees it before `replace`. Blocks on files: in a thread."""
        return self._read(owner, name, state)

    def replace(self, owner: str, name: str, model: Model | None) -> None:
        """From now on requests get this model, or none."""
        if model is None:
            self._models.pop((owner, name), None)
        else:
            self._models[owner, name] = model

    @property
    def writable_root(self) -> Path:
        return self.roots[-1]

    def find(self, owner: str, name: str) -> Model | None:
        return self._models.get((owner, name))

    def models(self) -> list[Model]:
        """By owner, then name."""
        return [model for _, model in sorted(self._models.items())]

    def owners(self) -> set[str]:
        """Who has a model, users and others; such a name is not free for a new user."""
        return {owner for owner, _ in self._models}

    def visible(self, caller: Caller | None) -> list[Model]:
        """The models this caller may use, by owner and name."""
        return [model for model in self.models() if visible_to(caller, model)]

    def model_for(self, caller: Caller | None, owner: str, name: str) -> Model:
        """The model, if this caller may use it. EngineError, in this order: `full_key_needed`, `model_not_found`.

        A read-only key is refused before the look-up, so that it does not learn which models of others exist.
        """
        if caller is not None and caller.kind == "read_only" and not owns(caller, owner):
            raise EngineError("full_key_needed", "a full key is needed for this")
        model = self.find(owner, name)
        if model is None or not visible_to(caller, model):
            raise EngineError("model_not_found", "model not found")
        return model

    def changeable(self, caller: Caller, owner: str, name: str) -> Model | None:
        """The model that this caller may change, None when there is none yet and the caller may make it.

        raises  EngineError `full_key_needed`; of another owner's model `forbidden` if the caller may see it, else `model_not_found`
        """
        if caller.kind != "full":
            raise EngineError("full_key_needed", "a full key is needed for this")
        model = self.find(owner, name)
        if owns(caller, owner):
            return model
        if model is not None and visible_to(caller, model):
            raise EngineError("forbidden", "only the owner of a model may change it")
        raise EngineError("model_not_found", "model not found")

    def access(self, caller: Caller | None, owner: str, name: str, version: int | None = None) -> Version:
        """The version that answers this caller: the active one, or a kept one by number.

        caller  None: no credentials, where that is allowed
        raises  EngineError as model_for; `no_instances` for a version with a fault, `model_not_found` for one that is not kept
        """
        model = self.model_for(caller, owner, name)
        number = model.active_version if version is None else version
        if number in model.faults:
            raise EngineError("no_instances", "no instances of model found")
        if number not in model.versions:
            raise EngineError("model_not_found", "model not found")
        return model.versions[number]

    def _read(self, owner: str, name: str, state: ModelOverrides) -> Model | None:
        """One model from all roots, or None when no version of it has a graph. On equal numbers the later root wins."""
        folders = [folder for root in self.roots if (folder := root / owner / name).is_dir()]
        versions: dict[int, Version] = {}
        faults: dict[int, str] = {}
        for folder in _version_folders(folders):
            number = int(folder.name)
            try:
                versions[number] = Version(number, folder, _config(folder, folders), int((folder / GRAPH_FILE).stat().st_mtime))
            except ValueError as fault:
                faults[number] = str(fault)
                logger.warning("model version offline model=%s/%s version=%d reason=%r", owner, name, number, str(fault))
        if not versions and not faults:
            return None
        shipped = any((root / owner / name).is_dir() for root in self.roots[:-1])
        return _model(owner, name, versions, faults, state, shipped)


def owns(caller: Caller, owner: str) -> bool:
    """Whether an owner's models count as the caller's own. The admin acts for everybody."""
    return caller.is_admin or caller.name == owner


def visible_to(caller: Caller | None, model: Model) -> bool:
    """Whether a caller may use a model: its own, and what is shared; a read-only key opens its own only."""
    if caller is None:
        return model.shared
    return owns(caller, model.owner) or (model.shared and caller.kind == "full")


def _names(root: Path) -> Iterable[tuple[str, str]]:
    """(owner, name) of each folder under a root that has the form of a model's."""
    for owner in _folders(root):
        if OWNER_NAME.fullmatch(owner.name):
            yield from ((owner.name, model.name) for model in _folders(owner) if MODEL_NAME.fullmatch(model.name))


def _folders(parent: Path) -> list[Path]:
    """Folders inside a folder that may not exist; hidden ones are unfinished work of a publisher."""
    try:
        return [child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("folder skipped name=%s reason=%r", parent.name, error.strerror)
        return []


def _version_folders(folders: list[Path]) -> list[Path]:
    """One folder per number, from the latest root that has it."""
    found = {
        child.name: child
        for folder in folders
        for child in _folders(folder)
        if VERSION.fullmatch(child.name) and (child / GRAPH_FILE).is_file()
    }
    return list(found.values())


def _config(folder: Path, model_folders: list[Path]) -> ModelConfig:
    """The version's own config.json, else the one of its model: same root, then the others, latest first. ValueError if bad."""
    others = [other for other in reversed(model_folders) if other != folder.parent]
    for place in (folder, folder.parent, *others):
        try:
            config = parse_config((place / CONFIG_FILE).read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ValueError(f"config.json cannot be read: {error.strerror}") from None
        expected = (folder.parent.parent.name, folder.parent.name)
        if (config.owner, config.name) != expected:
            raise ValueError(f"config.json names {config.owner}/{config.name}, its folder {'/'.join(expected)}")
        return config
    raise ValueError("config.json is missing")


def _model(
    owner: str, name: str, versions: dict[int, Version], faults: dict[int, str], state: ModelOverrides, shipped: bool
) -> Model:
    """Without an override the highest version that can be used is active, and shared is as its config says."""
    numbers = versions.keys() | faults.keys()
    active = state.active_version if state.active_version in numbers else max(versions or faults)
    config = versions[active].config if active in versions else None
    shared = state.shared if state.shared is not None else config is not None and config.shared
    return Model(owner, name, versions, faults, active, shared, shipped)

"""The model repository: which models there are, in which versions, and who may use them.

Reads the folders `<root>/<owner>/<name>/<version>/` and their config.json. Knows nothing of HTTP, of graphs, or of whether a model
is loaded. A version that cannot be used is listed with its fault, and the other versions and models stay usable.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.accounts import OWNER_NAME, Caller, Right, full_key_needed
from engine.errors import FORBIDDEN, EngineError, model_not_found, no_instances
from engine.repository.config import ModelConfig, parse_config
from engine.roles import Role
from engine.store import ModelOverrides

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")

CONFIG_FILE = "config.json"
GRAPH_FILE = "model.onnx"

# In the team that owns a model: who may use it like an own one, and who may publish, change and delete it.
ROLE_TO_USE, ROLE_TO_CHANGE = Role.MEMBER, Role.MODEL_DEVELOPER

log = logging.getLogger("sluice.repository")


@dataclass(frozen=True, slots=True)
class Version:
    """One kept version of a model whose config.json can be used.

    folder        contains model.onnx and the files that belong to it
    config        from the version's own config.json, or from the model's
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
    active_version  number of the version that answers; that version may have a fault
    shared          whether others may use the model
    shipped         part of the model came with the server and cannot be changed
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
        """The numbers of all kept versions, oldest first."""
        return sorted(self.versions.keys() | self.faults.keys())

    @property
    def latest_version(self) -> int:
        return self.numbers[-1]

    @property
    def description(self) -> str:
        return self.active.config.shown_description if self.active else ""

    def forget(self, number: int) -> None:
        """From now on requests do not find this version."""
        self.versions.pop(number, None)
        self.faults.pop(number, None)


@dataclass(slots=True)
class Repository:
    """The models of several roots. The server writes to the last root only (data/models); the other roots ship with it."""

    roots: Sequence[Path]
    _models: dict[tuple[str, str], Model] = field(default_factory=dict)

    @property
    def writable_root(self) -> Path:
        return self.roots[-1]

    def scan(self, overrides: Mapping[tuple[str, str], ModelOverrides] | None = None) -> None:
        """Read all roots again. Blocks on files: call it at start-up, or in a thread. All models change at once.

        overrides  (owner, name) -> what was changed at run time (Store.list_model_overrides)
        """
        overrides = overrides or {}
        found = (self.read(owner, name, overrides.get((owner, name), ModelOverrides())) for owner, name in self.names())
        self._models = {(model.owner, model.name): model for model in found if model is not None}

    def names(self) -> list[tuple[str, str]]:
        """(owner, name) of every model that has a folder now, or had one when it was last read. Blocks on files."""
        return sorted({name for root in self.roots for name in _names_under(root)} | self._models.keys())

    def read(self, owner: str, name: str, overrides: ModelOverrides) -> Model | None:
        """Read one model from its folders; None when no version of it has a graph. Blocks on files: call it in a thread.

        Requests get the model that is returned only after `replace`. When two roots have the same version, the later root wins.
        """
        folders = [folder for root in self.roots if (folder := root / owner / name).is_dir()]
        versions, faults = _read_versions(folders)
        if not versions and not faults:
            return None
        active_version = _active_version(versions, faults, overrides)
        return Model(
            owner,
            name,
            versions,
            faults,
            active_version,
            shared=_is_shared(versions.get(active_version), overrides),
            shipped=any((root / owner / name).is_dir() for root in self.roots[:-1]),
        )

    def replace(self, owner: str, name: str, model: Model | None) -> None:
        """From now on requests get this model; with None they find no model of this name."""
        if model is None:
            self._models.pop((owner, name), None)
        else:
            self._models[owner, name] = model

    # What there is

    def find(self, owner: str, name: str) -> Model | None:
        return self._models.get((owner, name))

    def models(self) -> list[Model]:
        """Sorted by owner, then by name."""
        return [model for _, model in sorted(self._models.items())]

    def owners(self) -> set[str]:
        """Every name that owns a model, whether or not it is a user's. No new user may take such a name."""
        return {owner for owner, _ in self._models}

    # What a caller may use or change. A caller of None sent no credentials, on a surface that allows this.

    def visible(self, caller: Caller | None) -> list[Model]:
        """The models that this caller may use, sorted by owner and name."""
        return [model for model in self.models() if visible_to(caller, model)]

    def model_for(self, caller: Caller | None, owner: str, name: str) -> Model:
        """The model, if this caller may use it. EngineError, checked in this order: `full_key_needed`, `model_not_found`.

        We refuse a read-only key before we look for the model. Otherwise it could find out which models other owners have.
        """
        if caller is not None and caller.kind == "read_only" and not owns(caller, owner):
            raise full_key_needed()
        model = self.find(owner, name)
        if model is None or not visible_to(caller, model):
            raise model_not_found()
        return model

    def changeable(self, caller: Caller, owner: str, name: str) -> Model | None:
        """The model that this caller may change, or None when there is no such model yet and the caller may create it.

        raises  EngineError `full_key_needed`; for another owner's model `forbidden` if the caller may see it, else
                `model_not_found`
        """
        if caller.kind != "full":
            raise full_key_needed()
        model = self.find(owner, name)
        if (caller.role_in(owner) or 0) >= ROLE_TO_CHANGE:
            return model
        if model is not None and visible_to(caller, model):
            raise EngineError(FORBIDDEN, "only the owner of a model may change it, or a ModelDeveloper of its team")
        raise model_not_found()

    def access(self, caller: Caller | None, owner: str, name: str, version: int | None = None) -> Version:
        """The version that answers this caller: the one with this number, or the active one.

        raises  EngineError as model_for; `no_instances` for a version with a fault, `model_not_found` for one that is not kept
        """
        model = self.model_for(caller, owner, name)
        number = model.active_version if version is None else version
        if number in model.faults:
            raise no_instances(retry_after_s=None)
        if number not in model.versions:
            raise model_not_found()
        return model.versions[number]


def owns(caller: Caller, owner: str) -> bool:
    """Whether the models of this owner count as the caller's own: for the owner, Members of the team, and the admin."""
    return (caller.role_in(owner) or 0) >= ROLE_TO_USE


def visible_to(caller: Caller | None, model: Model) -> bool:
    """Whether a caller may use a model: its own models and, unless its key is read-only, all shared ones."""
    if caller is None:
        return model.shared
    return owns(caller, model.owner) or (model.shared and caller.kind == "full")


def right_to_use(caller: Caller | None, model: Model) -> Right | None:
    """What a caller who may use a model must keep while it does; None if everybody with such a key may use it."""
    if caller is None or (model.shared and caller.kind == "full"):
        return None
    return Right(model.owner, ROLE_TO_USE)


# Reading folders


def _names_under(root: Path) -> Iterable[tuple[str, str]]:
    """(owner, name) of each folder under a root whose path looks like a model's."""
    for owner in _folders_in(root):
        if OWNER_NAME.fullmatch(owner.name):
            yield from ((owner.name, model.name) for model in _folders_in(owner) if MODEL_NAME.fullmatch(model.name))


def _folders_in(parent: Path) -> list[Path]:
    """The folders in a folder, which may be missing. Hidden folders are left out: a publisher has not finished them."""
    try:
        return [child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("folder skipped name=%s reason=%r", parent.name, error.strerror)
        return []


def _read_versions(model_folders: list[Path]) -> tuple[dict[int, Version], dict[int, str]]:
    """The versions in a model's folders, one folder per root: those that can be used, and why the others cannot, by number."""
    versions: dict[int, Version] = {}
    faults: dict[int, str] = {}
    for folder in _version_folders(model_folders):
        number = int(folder.name)
        try:
            config = _read_config(folder, model_folders)
            versions[number] = Version(number, folder, config, int((folder / GRAPH_FILE).stat().st_mtime))
        except ValueError as fault:
            faults[number] = str(fault)
            title = f"{folder.parent.parent.name}/{folder.parent.name}"
            log.warning("model version offline model=%s version=%d reason=%r", title, number, str(fault))
    return versions, faults


def _version_folders(model_folders: list[Path]) -> list[Path]:
    """One folder per version number; when several roots have the number, the folder in the last of them."""
    found = {
        child.name: child
        for folder in model_folders
        for child in _folders_in(folder)
        if VERSION.fullmatch(child.name) and (child / GRAPH_FILE).is_file()
    }
    return list(found.values())


def _read_config(version_folder: Path, model_folders: list[Path]) -> ModelConfig:
    """The config of a version. ValueError when it is missing or wrong.

    The first config.json that exists counts: the version's own, then that of the model in the same root, then those of the model in
    the other roots, the last root first.
    """
    model_folder = version_folder.parent
    others = [other for other in reversed(model_folders) if other != model_folder]
    for place in (version_folder, model_folder, *others):
        try:
            config = parse_config((place / CONFIG_FILE).read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ValueError(f"config.json cannot be read: {error.strerror}") from None
        expected = (model_folder.parent.name, model_folder.name)
        if (config.owner, config.name) != expected:
            raise ValueError(f"config.json names {config.owner}/{config.name}, but its folder is {'/'.join(expected)}")
        return config
    raise ValueError("config.json is missing")


def _active_version(versions: dict[int, Version], faults: dict[int, str], overrides: ModelOverrides) -> int:
    """The number of the version that answers: the override, if that version is kept, else the highest that can be used."""
    if overrides.active_version in versions or overrides.active_version in faults:
        return overrides.active_version
    return max(versions or faults)


def _is_shared(active: Version | None, overrides: ModelOverrides) -> bool:
    """Whether others may use a model: as the override says, else as the config of the active version says."""
    if overrides.shared is not None:
        return overrides.shared
    return active is not None and active.config.shared

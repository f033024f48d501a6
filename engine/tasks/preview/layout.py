"""Layout: which configs and splits a dataset has, and which files each split has. README.md decides, else the names of files do.

Knows names alone, not what is in the files.
"""

import fnmatch
import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.tasks.preview.failures import EmptyDatasetError, Failed, ParserError, UnsupportedError, failing_as, too_big
from engine.tasks.preview.files import File
from engine.tasks.preview.formats import MEDIA, ORDER, format_of, is_metadata
from engine.tasks.preview.limits import MAX_CONFIGS, MAX_SPLITS
from engine.tasks.preview.readme import README, Readme

DEFAULT_CONFIG = "default"
DEFAULT_SPLIT = "train"
MAX_PATTERN_CHARACTERS = 1000
_SPLIT_WORDS = {
    "train": ("training", "train"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("testing", "test", "evaluation", "eval"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLIT_WORDS.items() for word in words}
_WORD = re.compile(rf"(?<![a-z])({'|'.join(sorted(_SPLIT_OF_WORD, key=len, reverse=True))})(?![a-z])", re.IGNORECASE)
_SHARD = re.compile(r"data/([^/]+?)-[0-9]{5}-of-[0-9]{5}(?:-[0-9A-Za-z]+)?\.[^/]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Split:
    """files: those with its rows, in order; numbers as README.md declares them."""

    name: str
    files: tuple[File, ...]
    num_bytes: int | None = None
    num_examples: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A way to read a dataset.

    format     one of formats.ORDER
    base       folder that all its files are in, with a slash at its end, or empty
    metadata   files that add columns to pictures and sounds
    options    of README.md: `sep`, `encoding`, `field`
    features   as README.md declares them, else None
    failure    why it cannot be listed; then it has no splits
    """

    name: str
    is_default: bool = False
    format: str = ""
    splits: tuple[Split, ...] = ()
    base: str = ""
    metadata: tuple[File, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    features: Any = None
    failure: Failed | None = None

    def split(self, name: str) -> Split | None:
        return next((split for split in self.splits if split.name == name), None)


def hidden_names(readme: Readme) -> list[str]:
    """Names with a dot at their start that README.md speaks of: files are looked for there, too."""
    paths = [path for one in _declared(readme) for _, paths in _data_files(one.get("data_files")) for path in paths]
    paths += [one["data_dir"] for one in _declared(readme) if isinstance(one.get("data_dir"), str)]
    return sorted({part for path in paths for part in path.split("/") if part.startswith(".")})


def configs(readme: Readme, files: Sequence[File]) -> list[Config]:
    """All configs in order. Failed: the dataset is not supported, has too many configs or splits, or none that can be listed."""
    if not readme.is_shown:
        raise Failed("DatasetNotSupported") from UnsupportedError("README.md says `viewer: false`")
    declared = _declared(readme)
    if len(declared) > MAX_CONFIGS:
        raise Failed("TooBigContent", too_big(len(declared), "configs", MAX_CONFIGS))
    infos = _infos(readme)
    found = [_listed(one, files, infos) for one in declared or [{"config_name": DEFAULT_CONFIG, "default": True}]]
    num_splits = sum(len(config.splits) for config in found)
    if num_splits > MAX_SPLITS:
        raise Failed("TooBigContent", too_big(num_splits, "splits", MAX_SPLITS))
    failures = [config.failure for config in found if config.failure]
    if len(failures) == len(found):
        raise failures[0] from failures[0].__cause__
    return found


# What README.md declares


def _declared(readme: Readme) -> list[Mapping[str, Any]]:
    """The entries of `configs`. Failed."""
    entries = readme.front.get("configs")
    if not entries:
        return []
    with failing_as("InfoError"):
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise ParserError(f"{README}: `configs` is not a list of mappings")
        names = [_name_of(one) for one in entries]
        if len(set(names)) < len(names):
            raise ParserError(f"{README}: two configs have the same name")
    return entries


def _name_of(entry: Mapping[str, Any]) -> str:
    name = entry.get("config_name", DEFAULT_CONFIG)
    return str(name) if isinstance(name, str | int | float) else DEFAULT_CONFIG


def _infos(readme: Readme) -> dict[str, Mapping[str, Any]]:
    """The entries of `dataset_info` by name of the config; one alone without a name is that of the default."""
    entries = readme.front.get("dataset_info")
    entries = entries if isinstance(entries, list) else [entries]
    return {_name_of(one): one for one in entries if isinstance(one, dict)}


def _data_files(given: Any) -> list[tuple[str, list[str]]]:
    """Names of splits with their patterns: `data_files` may be a text, a list of texts, or a list or a mapping of splits."""
    if isinstance(given, str):
        return [(DEFAULT_SPLIT, [given])]
    if isinstance(given, dict):
        given = [{"split": split, "path": path} for split, path in given.items()]
    if not isinstance(given, list):
        return []
    texts = [one for one in given if isinstance(one, str)]
    found = [(DEFAULT_SPLIT, texts)] if texts else []
    for one in given:
        if isinstance(one, dict):
            paths = one.get("path")
            paths = paths if isinstance(paths, list) else [paths]
            found.append((str(one.get("split", DEFAULT_SPLIT)), [path for path in paths if isinstance(path, str)]))
    return found


# From names to splits


def _listed(entry: Mapping[str, Any], files: Sequence[File], infos: Mapping[str, Mapping[str, Any]]) -> Config:
    """One config, with its failure if it cannot be listed."""
    name = _name_of(entry)
    is_default = bool(entry.get("default")) or name == DEFAULT_CONFIG
    try:
        with failing_as("SplitsNamesError"):
            return _config(name, is_default, entry, files, infos)
    except Failed as failed:
        return Config(name, is_default, failure=failed)


def _config(
    name: str, is_default: bool, entry: Mapping[str, Any], files: Sequence[File], infos: Mapping[str, Mapping[str, Any]]
) -> Config:
    _check_name(name)
    base = _base(entry.get("data_dir"))
    inside = [file for file in files if file.path.startswith(base)]
    patterns = _data_files(entry.get("data_files"))
    if patterns:
        found = _by_patterns(patterns, base, inside)
    else:
        found = {DEFAULT_SPLIT: [file for file in inside if not file.path.startswith(".")]}
    kind = _format([file for of_split in found.values() for file in of_split])
    metadata = [file for file in inside if is_metadata(file.path)] if kind in MEDIA else []
    splits = {split: [file for file in chosen if format_of(file.path) == kind] for split, chosen in found.items()}
    splits = {split: [file for file in chosen if kind in MEDIA or not is_metadata(file.path)] for split, chosen in splits.items()}
    if not patterns:
        splits = _by_names(splits[DEFAULT_SPLIT], base)
    info = infos.get(name) or (next(iter(infos.values())) if len(infos) == 1 and name == DEFAULT_CONFIG else {})
    options = {key: entry[key] for key in ("sep", "delimiter", "encoding", "field") if entry.get(key) is not None}
    numbers = _numbers(info)
    made = tuple(Split(split, tuple(chosen), *numbers.get(split, (None, None))) for split, chosen in splits.items())
    for split in made:
        _check_name(split.name)
    return Config(name, is_default, kind, made, base, tuple(metadata), options, info.get("features"))


def _check_name(name: str) -> None:
    # A client takes the dots out of an address, so that no picture of such a config or split could be had.
    if name in ("", ".", "..") or _CONTROL.search(name) or len(name.encode(errors="replace")) > 500:
        raise ParserError(f"{README}: {name[:100]!r} cannot name a config or a split")


def _base(data_dir: Any) -> str:
    """`data_dir` with a slash at its end; EmptyDatasetError where it leaves the dataset."""
    text = str(data_dir or "").removeprefix("./").strip("/")
    if str(data_dir or "").startswith("/") or ".." in text.split("/") or "://" in text:
        raise EmptyDatasetError(f"the data_dir {str(data_dir)[:200]!r} is not inside the dataset")
    return f"{text}/" if text and text != "." else ""


def _numbers(info: Mapping[str, Any]) -> dict[str, tuple[int | None, int | None]]:
    """Declared bytes and rows of each split."""
    splits = info.get("splits")
    entries = (
        [{"name": name, **one} for name, one in splits.items() if isinstance(one, dict)] if isinstance(splits, dict) else splits
    )
    entries = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    return {str(one.get("name")): (_number(one.get("num_bytes")), _number(one.get("num_examples"))) for one in entries}


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _format(files: Sequence[File]) -> str:
    """What most of the files are. EmptyDatasetError; Failed if no file is of a known format."""
    formats = Counter(kind for file in files if (kind := format_of(file.path)))
    if MEDIA & formats.keys():
        formats -= Counter(format_of(file.path) or "" for file in files if is_metadata(file.path))
    if formats:
        return min(formats, key=lambda kind: (-formats[kind], ORDER.index(kind)))
    others = [file.path for file in files if file.path != README]
    if not others:
        raise EmptyDatasetError("there are no data files")
    raise Failed("DatasetNotSupported") from UnsupportedError(f"no file has a format that is read here; one of them: {others[0]}")


def _by_patterns(patterns: list[tuple[str, list[str]]], base: str, files: Sequence[File]) -> dict[str, list[File]]:
    """Splits in the order of README.md. EmptyDatasetError for a pattern without a file."""
    found: dict[str, dict[str, File]] = {}
    for split, paths in patterns:
        chosen = found.setdefault(split, {})
        if not paths:
            raise EmptyDatasetError(f"the split {split[:100]!r} has no path")
        for path in paths:
            matches = [file for file in files if matches_pattern(file.path, base + path.removeprefix("./"))]
            if not matches:
                raise EmptyDatasetError(f"no file matches the pattern {path[:200]!r}")
            chosen.update((file.path, file) for file in matches if format_of(file.path))
            if not chosen:
                _format(matches)
    return {split: list(chosen.values()) for split, chosen in found.items()}


def matches_pattern(path: str, pattern: str) -> bool:
    """Whether a glob matches a path: `*`, `?` and `[..]` stay within a part, `**` is any parts. No star matches a dot."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        return False
    parts, wanted = path.split("/"), pattern.split("/")
    # ends[i]: whether the pattern so far can end before part i
    ends = [True] + [False] * len(parts)
    for piece in wanted:
        if piece == "**":
            for i, part in enumerate(parts):
                ends[i + 1] = ends[i + 1] or (ends[i] and not part.startswith("."))
        else:
            ends = [False] + [ends[i] and _part_matches(part, piece) for i, part in enumerate(parts)]
    return ends[-1]


def _part_matches(part: str, piece: str) -> bool:
    return part.startswith(".") == piece.startswith(".") and _compiled(piece).fullmatch(part) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(piece: str) -> re.Pattern[str]:
    # The expressions of fnmatch do not explode, however many stars there are.
    return re.compile(fnmatch.translate(piece))


def _by_names(files: Sequence[File], base: str) -> dict[str, list[File]]:
    """Splits by the names of folders and files, in order: train, validation, test, then by the alphabet."""
    for of_name in (_of_shard, _of_folder, _of_file):
        found: dict[str, list[File]] = {}
        for file in files:
            if split := of_name(file.path.removeprefix(base)):
                found.setdefault(split, []).append(file)
        if found:
            return {split: found[split] for split in sorted(found, key=_order)}
    return {DEFAULT_SPLIT: list(files)}


def _of_shard(path: str) -> str | None:
    found = _SHARD.fullmatch(path)
    return found[1] if found else None


def _of_folder(path: str) -> str | None:
    return next(filter(None, map(_split_in, path.split("/")[:-1])), None)


def _of_file(path: str) -> str | None:
    return _split_in(path.rpartition("/")[2])


def _split_in(name: str) -> str | None:
    found = _WORD.search(name)
    return _SPLIT_OF_WORD[found[1].lower()] if found else None


def _order(split: str) -> tuple[int, str]:
    known = list(_SPLIT_WORDS)
    return (known.index(split) if split in known else len(known), split)

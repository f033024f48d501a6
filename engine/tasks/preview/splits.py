"""The tasks `splits` and `files`: the configs and splits of a dataset, and the files of one split."""

import os

from engine.frames import Header
from engine.tasks.preview.failures import failing_as, report
from engine.tasks.preview.files import Folder
from engine.tasks.preview.layout import Config
from engine.tasks.preview.reading import list_configs, opened_split


def splits(header: Header) -> Header:
    """The docstring of the family has header and answer of both. Failed."""
    with failing_as("SplitsNamesError"), Folder.of_dataset(header["root"], header["name"]) as folder:
        found = list_configs(folder)
    return {"configs": [_told(config, os.path.join(header["root"], header["name"])) for config in found]}


def _told(config: Config, path: str) -> Header:
    listed = [
        {"split": one.name, "num_bytes": one.num_bytes, "num_examples": one.num_examples, "files": len(one.files)}
        for one in config.splits
    ]
    error = report(config.failure, path) if config.failure else None
    return {"config": config.name, "default": config.is_default, "splits": listed, "error": error}


def files(header: Header) -> Header:
    with opened_split(header) as reader:
        config = reader.config
        return {
            "files": [[file.path, file.size] for file in reader.split.files],
            "metadata": [[file.path, file.size] for file in config.metadata],
            "format": config.format,
        }

"""Embedding models with random weights, put into a data directory as a person would do it. They need no download."""

import json
import shutil
from pathlib import Path
from typing import Any

from engine.tasks.publishing.convert import convert
from tests import sentence_folders

GRAPH, TOKENIZER, CONFIG = "model.onnx", "tokenizer.json", "config.json"
# One layer is enough for tests that only need long vectors.
WIDE: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 1}


class SmallModels:
    """Builds each kind of model once, and copies it wherever a test wants it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[str, tuple[Path, dict[str, Any]]] = {}

    def files(self, kind: str = "bert", pooling: str = "mean", **sizes: Any) -> tuple[Path, dict[str, Any]]:
        """A folder with model.onnx and tokenizer.json, and their config."""
        key = f"{kind}-{pooling}" + "".join(f"-{name}={value}" for name, value in sizes.items())
        if key not in self._built:
            source, target = self._folder / key / "source", self._folder / key / "model"
            source.mkdir(parents=True)
            target.mkdir()
            sentence_folders.write(source, kind, pooling=pooling, **sizes)
            self._built[key] = target, convert(source, target, owner="nobody", name="nothing", shared=True)
        target, config = self._built[key]
        return target, dict(config)

    def put(
        self,
        data_dir: Path,
        title: str,
        kind: str = "bert",
        pooling: str = "mean",
        *,
        sizes: dict[str, Any] | None = None,
        version: int = 1,
        **changes: Any,
    ) -> Path:
        """Put the model `owner/name` into the data directory, with these changes to its config; returns its version folder."""
        owner, name = title.split("/")
        source, config = self.files(kind, pooling, **(sizes or {}))
        folder = data_dir / "models" / owner / name
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
        for file in (GRAPH, TOKENIZER):
            shutil.copyfile(source / file, folder / str(version) / file)
        (folder / CONFIG).write_text(json.dumps(config | {"owner": owner, "name": name} | changes), "utf-8")
        return folder / str(version)

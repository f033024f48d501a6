"""The models that a replica has open: one collection, which the families `scoring` and `embedding` share.

Knows nothing of files and graphs; what opens a model is given with each call of `load`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.frames import Header
from engine.tasks.families import ENDS, LoadFailed
from engine.tasks.scoring.model import Scorer

MAX_FAULT_CHARACTERS = 500

# (key, folder of the version, its config.json with defaults filled in) -> the model.
Opener = Callable[[str, Path, dict[str, Any]], Scorer]


class LoadedModels:
    """The open models by their keys "owner/name@version", what a record costs each, and why the others failed to open."""

    def __init__(self) -> None:
        self._models: dict[str, Scorer] = {}
        self._costs: dict[str, float] = {}
        self._faults: dict[str, str] = {}

    def load(self, open_model: Opener, header: Header) -> Header:
        """Open a model and warm it up, unless it is open; answers with its `seconds_per_record`. LoadFailed.

        header  model: the key; folder; config
        """
        key = header["model"]
        if key not in self._models:
            self._faults.pop(key, None)
            try:
                model = open_model(key, Path(header["folder"]), header["config"])
                self._costs[key] = model.warm_up(header["config"]["example"])
            except ENDS:
                raise
            except BaseException as error:  # a user's file may fail in any way; the server logs the reason
                self._faults[key] = f"{type(error).__name__}: {error}"[:MAX_FAULT_CHARACTERS]
                raise LoadFailed(self._faults[key]) from None
            self._models[key] = model
        return {"seconds_per_record": self._costs[key]}

    def unload(self, key: str) -> None:
        """Forget a model; nothing happens if it is not open."""
        self._models.pop(key, None)

    def find(self, key: str) -> Scorer | None:
        """The model with this key, None if it is not open."""
        return self._models.get(key)

    def require(self, key: str) -> Scorer:
        """The model with this key. LoadFailed if it is not open."""
        if key not in self._models:
            raise LoadFailed(self._faults.get(key, "not loaded"))
        return self._models[key]

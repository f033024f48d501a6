"""The families of tasks: packages beside this file. A replica imports those of its pool before it reports ready, and any other
with its first frame.

A family is a package with a function `tasks(families)`, which returns its task functions by name. Families holds, for one replica,
what it imported and the objects that several families share. Knows no task and no library.
"""

import gc
import importlib
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from engine.frames import Buffer, Header

# What ends a replica on purpose, or a long answer whose reader is gone. Anything else that a task raises is its answer, also what
# is no Exception: a panic in a library that is written in Rust comes as pyo3's PanicException, a BaseException.
ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)

Reply = tuple[Header, list[Buffer]]
# A long answer: replies that are sent as they are made, and the one that a generator returns is the last.
LongReply = Generator[Reply, None, Reply]
TaskFunction = Callable[[Header, memoryview], Reply | LongReply]
Shared = TypeVar("Shared")


def is_harmful(error: BaseException) -> bool:
    """Whether a failure cost the replica much: an allocation failed, in Python or in onnxruntime, or a library panicked.

    A regular expression that explodes, for example, runs for 0.2 s before the library gives up and panics.
    """
    return isinstance(error, MemoryError) or not isinstance(error, Exception) or "std::bad_alloc" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: in Python, in a library that says so in Python's way, in C++, or in DuckDB."""
    return isinstance(error, MemoryError) or "std::bad_alloc" in str(error) or type(error).__name__ == "OutOfMemoryException"


class UnknownTask(LookupError):
    """A frame names a family or a task that does not exist."""


class LoadFailed(Exception):
    """A task needs a model whose files could not be opened; the message says why in one line."""


class Families:
    """The families that one replica has imported, and the objects that they share."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[str, TaskFunction]] = {}
        self._shared: dict[type, Any] = {}

    def task(self, family: str, name: str) -> TaskFunction:
        """The function of a task. UnknownTask; or what the import of the family raises, which the next frame tries again."""
        tasks = self.ensure(family)
        try:
            return tasks[name]
        except KeyError:
            raise UnknownTask(f"the family '{family}' has no task '{name}'") from None

    def ensure(self, family: str) -> dict[str, TaskFunction]:
        """The tasks of a family by name; its first call imports the family, and raises what that raises."""
        if family not in self._tasks:
            self._tasks[family] = self._imported(family)
        return self._tasks[family]

    def the(self, kind: type[Shared]) -> Shared:
        """The only object of this class in the replica; the first call makes it."""
        if kind not in self._shared:
            self._shared[kind] = kind()
        shared: Shared = self._shared[kind]
        return shared

    def _imported(self, family: str) -> dict[str, TaskFunction]:
        if not family.isidentifier():  # a dotted name would import a module from elsewhere
            raise UnknownTask(f"'{family[:100]}' is not the name of a family")
        package = importlib.import_module(f"{__package__}.{family}")
        if not hasattr(package, "tasks"):
            raise UnknownTask(f"'{family}' is a module of the replica, not a family of tasks")
        tasks: dict[str, TaskFunction] = package.tasks(self)
        # Imported modules never become garbage: unfrozen, those of scoring and embedding cost each full collection 11 ms.
        gc.freeze()
        return tasks

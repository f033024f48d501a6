"""Plain blocks: the inputs of a model whose records the native kernel can read, and the results of such a block as lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.frames import Buffer
from engine.tasks.scoring import kernel
from engine.tasks.scoring.columns import TextColumn
from engine.tasks.scoring.inputs import Input, Irregular
from engine.tasks.scoring.kernel import BlockReader, Kernel, Lines, Memory, PlainIds, Wanted

# A model that takes fewer records in a run spends its time in runs, not in reading and writing.
LEAST_BATCH = 16


@dataclass(slots=True)
class Part:
    """The records of one run, as the model takes them, and their ids."""

    tensors: dict[str, np.ndarray]
    ids: PlainIds


class PlainBlocks:
    """Reads the plain blocks of one model, and writes the lines of their results."""

    def __init__(self, library: Kernel, inputs: Sequence[Input], wanted: Sequence[Wanted]) -> None:
        self._library = library
        self._inputs = inputs
        self._reader = BlockReader(library, wanted)
        self._memory = Memory()

    def read(self, payload: Buffer, num_lines: int, most: int) -> list[Part] | None:
        """The records of a block in parts of at most so many; None if the block is not plain."""
        read = self._reader.read(payload, num_lines)
        if read is None:
            return None
        arrays, ids = read
        tensors: dict[str, np.ndarray] = {}
        try:
            for entry, array in zip(self._inputs, arrays, strict=True):
                tensors.update(entry.from_plain(array))
        except Irregular:
            return None
        starts = range(0, num_lines, most)
        return [Part({name: it[i : i + most] for name, it in tensors.items()}, ids.between(i, i + most)) for i in starts]

    def write(self, runs: Sequence[Sequence[bytes | TextColumn | PlainIds]]) -> Lines:
        """The lines of the records of all parts, and the size of each. They are gone when the next block is written.

        runs  what each line of a part is made of, in order
        """
        return kernel.write(self._library, runs, self._memory)


def plain_blocks(inputs: Sequence[object], max_batch_size: int) -> PlainBlocks | None:
    """The reader for a model with these inputs; None if there is no kernel, or the kernel cannot read some input."""
    library = kernel.kernel()
    if library is None or max_batch_size < LEAST_BATCH:
        return None
    entries = [entry for entry in inputs if isinstance(entry, Input)]
    wanted = [found for entry in entries if (found := entry.wanted()) is not None and kernel.can_read(found)]
    if len(wanted) < len(inputs):
        return None
    try:
        return PlainBlocks(library, entries, wanted)
    except ValueError:  # two inputs want one field, or a field has an unusual name
        return None

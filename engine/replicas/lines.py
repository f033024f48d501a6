"""Lines that wait to become blocks: what was read from a stream and has not been given to a replica yet.

Plain bytes and arithmetic. Knows nothing of replicas, of the order between streams, or of what a line contains.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from engine.frames import LINE_END, Buffer

# So many lines are gone through one by one.
FEW_LINES = 64
# Newlines are counted in steps of this size, so that a cut looks at one step alone.
STEP_BYTES = 32 * 1024


def position_after(data: bytes, num_lines: int, start: int, end: int, num_all: int) -> int:
    """The position after the `num_lines`-th newline of data[start:end], in which there are `num_all`.

    It is looked for where it would be if all lines were equally long, as most nearly are; where that brings it little closer, in
    the middle of what is left. So a cut costs a pass or two at memory speed, and not one step of Python per line.
    """
    does_guess = True
    while num_lines > FEW_LINES:
        size, wanted = end - start, num_lines
        middle = start + (size * num_lines // num_all if does_guess else size // 2)
        is_near = middle - start <= size // 2  # newlines are counted where fewer are
        count = data.count(LINE_END, start, middle) if is_near else num_all - data.count(LINE_END, middle, end)
        if count >= num_lines:
            end, num_all = middle, count
        else:
            start, num_lines, num_all = middle, num_lines - count, num_all - count
        does_guess = not does_guess or 2 * num_lines <= wanted or 2 * (end - start) <= size
    for _ in range(num_lines):
        start = data.index(LINE_END, start) + 1
    return start


@dataclass(slots=True)
class LineSpan:
    """Consecutive whole lines of one body, as they came from the socket.

    data        bytes in which data[start:end] are the lines, each with its newline
    num_lines   lines in that range
    first_line  1-based number of the first
    refusal     an error code when this stands for one line that was thrown away; then data is empty
    steps       (number, position) for each step of counting: where it begins, and the first line that ends there or later
    """

    data: bytes
    start: int
    end: int
    num_lines: int
    first_line: int
    refusal: str | None = None
    steps: Sequence[tuple[int, int]] = ()

    @classmethod
    def counted(cls, data: bytes, start: int, end: int, first_line: int) -> "LineSpan":
        """The lines data[start:end], which are counted here."""
        number, steps = first_line, []
        for position in range(start, end, STEP_BYTES):
            steps.append((number, position))
            number += data.count(LINE_END, position, min(position + STEP_BYTES, end))
        return cls(data, start, end, number - first_line, first_line, steps=steps)

    @property
    def num_bytes(self) -> int:
        return self.end - self.start

    def cut_after(self, num_lines: int) -> int:
        """Where in `data` the first lines end, so many of them; there are more."""
        line = self.first_line + num_lines
        after = bisect_left(self.steps, (line, 0))
        number, start = max((self.first_line, self.start), self.steps[after - 1]) if after else (self.first_line, self.start)
        last, end = self.steps[after] if after < len(self.steps) else (self.first_line + self.num_lines, self.end)
        return position_after(self.data, line - number, start, end, last - number)


class Lines(NamedTuple):
    """The lines of one block.

    buffers     the raw bytes, in order
    num_lines   lines in the buffers; a body that nobody has cut into lines counts as one
    first_line  1-based number of the first line in its body, when the lines are consecutive; 0 when they have no numbers
    numbers     the number of each line, when they are not consecutive
    refusal     an error code when this stands for one line that was thrown away; then the buffers are empty
    origin      number of the first row in the buffers, if these lines are some of the rows in there; 0 for lines of text
    """

    buffers: Sequence[Buffer] = ()
    num_lines: int = 1
    num_bytes: int = 0
    first_line: int = 0
    numbers: list[int] | None = None
    refusal: str | None = None
    origin: int = 0

    @classmethod
    def of_body(cls, body: bytes) -> "Lines":
        return cls((body,), num_bytes=len(body))

    @classmethod
    def of_buffers(cls, buffers: Sequence[Buffer]) -> "Lines":
        return cls(buffers, num_bytes=sum(map(len, buffers)))

    @property
    def oldest(self) -> int:
        """The lowest number of a line; 0 when the lines have no numbers."""
        return min(self.numbers) if self.numbers else self.first_line

    def without_bytes(self) -> "Lines":
        """The same places, with nothing left of what stood there."""
        return self._replace(buffers=(), num_bytes=0)

    def halved(self) -> tuple["Lines", "Lines"]:
        """The first and the second half of at least two lines."""
        raw = b"".join(self.buffers)
        num_first = self.num_lines // 2
        end = position_after(raw, num_first, 0, len(raw), self.num_lines)
        return self._part(raw[:end], 0, num_first), self._part(raw[end:], num_first, self.num_lines)

    def _part(self, raw: bytes, start: int, end: int) -> "Lines":
        """The lines from index `start` to index `end`."""
        if self.numbers is not None:
            return Lines((raw,), end - start, len(raw), numbers=self.numbers[start:end])
        return Lines((raw,), end - start, len(raw), self.first_line + start)


class LineQueue:
    """Lines that wait to become blocks, in the order they came."""

    def __init__(self) -> None:
        self._spans: deque[LineSpan] = deque()
        self.num_lines = 0
        self.num_bytes = 0

    def append(self, span: LineSpan) -> None:
        self._spans.append(span)
        self.num_lines += span.num_lines
        self.num_bytes += span.num_bytes

    def take(self, max_lines: int) -> Lines:
        """The next consecutive lines, at most `max_lines`; at least one line must be waiting."""
        first = self._spans[0]
        first_line, num_lines, num_bytes = first.first_line, 0, 0
        buffers: list[Buffer] = []
        while self._spans and num_lines < max_lines:
            span = self._spans[0]
            if span.first_line != first_line + num_lines or (num_lines and (span.refusal or first.refusal)):
                break
            buffer, count = self._take_from(span, max_lines - num_lines)
            buffers.append(buffer)
            num_lines += count
            num_bytes += len(buffer)
        self.num_lines -= num_lines
        self.num_bytes -= num_bytes
        return Lines(buffers, num_lines, num_bytes, first_line, None, first.refusal)

    def _take_from(self, span: LineSpan, max_lines: int) -> tuple[memoryview, int]:
        if span.num_lines <= max_lines:
            self._spans.popleft()
            return memoryview(span.data)[span.start : span.end], span.num_lines
        cut = span.cut_after(max_lines)
        buffer = memoryview(span.data)[span.start : cut]
        span.start = cut
        span.num_lines -= max_lines
        span.first_line += max_lines
        return buffer, max_lines


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What a model that tokenises takes, in tokens. The server process does not tokenise, so it estimates a token by its bytes.

    record  tokens of one record that the model looks at; the tokenizer cuts the rest
    run     padded cells (tokens of the longest record x records) of one run
    """

    record: int
    run: int

    # A short token, and the JSON around the text. The estimate errs towards smaller blocks.
    RUN_BYTES_PER_TOKEN: ClassVar[int] = 3
    # A long token: the tokenizer cuts what is beyond, so it costs no more.
    RECORD_BYTES_PER_TOKEN: ClassVar[int] = 6

    @property
    def run_bytes(self) -> int:
        return self.run * self.RUN_BYTES_PER_TOKEN

    @property
    def record_bytes(self) -> int:
        return self.record * self.RECORD_BYTES_PER_TOKEN


class Line(NamedTuple):
    """One line of a GroupedLineQueue; lines sort by length, then by age."""

    num_bytes: int
    number: int
    data: bytes


class GroupedLineQueue:
    """Lines that wait to become blocks of similar length, for models that pad every record of a run to the longest one.

    A block holds the line that has waited longest and its neighbours by length, so that no line starves and little is padded.
    """

    def __init__(self, limits: TokenLimits, max_lines: int) -> None:
        self._limits = limits
        self._max_lines = max_lines  # of one block
        self._lines: list[Line] = []
        self._by_age: deque[Line] = deque()  # a line that was taken before its turn stays here until its turn comes
        self._taken: set[int] = set()  # the numbers of those lines
        self._refused: deque[LineSpan] = deque()
        self._is_sorted = True
        self.num_bytes = 0

    @property
    def num_lines(self) -> int:
        return len(self._lines) + len(self._refused)

    def append(self, span: LineSpan) -> None:
        if span.refusal:
            self._refused.append(span)
            return
        lines = [Line(len(data), span.first_line + i, data) for i, data in enumerate(_split(span))]
        self._lines += lines
        self._by_age += lines
        self._is_sorted = False
        self.num_bytes += span.num_bytes

    def take(self, max_bytes: int) -> Lines:
        """At most `max_bytes`, padding included, or one line that is longer; at least one line must be waiting."""
        if self._refused:
            span = self._refused.popleft()
            return Lines((), 1, 0, span.first_line, None, span.refusal)
        if not self._is_sorted:
            self._lines.sort()
            self._is_sorted = True
        start, end = self._neighbours(bisect_left(self._lines, self._oldest()), min(max_bytes, self._limits.run_bytes))
        taken = self._lines[start:end]
        del self._lines[start:end]
        self._taken.update(line.number for line in taken)
        num_bytes = sum(line.num_bytes for line in taken)
        self.num_bytes -= num_bytes
        return Lines([line.data for line in taken], len(taken), num_bytes, numbers=[line.number for line in taken])

    def _oldest(self) -> Line:
        while self._by_age[0].number in self._taken:
            self._taken.remove(self._by_age.popleft().number)
        return self._by_age[0]

    def _neighbours(self, oldest: int, max_bytes: int) -> tuple[int, int]:
        """The range around `oldest` to take: first the shorter lines, which cost nothing more, then longer ones."""
        count = max(1, min(self._max_lines, max_bytes // self._cost_of(oldest)))
        start = max(0, oldest + 1 - count)
        end = oldest + 1
        while end < len(self._lines) and end - start < self._max_lines:
            if (end + 1 - start) * self._cost_of(end) > max_bytes:
                break
            end += 1
        return start, end

    def _cost_of(self, index: int) -> int:
        """Bytes of a line that the model looks at."""
        return min(self._lines[index].num_bytes, self._limits.record_bytes)


def _split(span: LineSpan) -> list[bytes]:
    """The lines of a span, each with its newline."""
    return [line + LINE_END for line in span.data[span.start : span.end].split(LINE_END)[:-1]]

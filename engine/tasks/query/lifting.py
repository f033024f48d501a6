"""Reading a text the first time: one linear pass that cuts it into tokens and lifts its vectors out.

    'strings' ('' doubles)   "names"   -- to the line's end   # to the line's end   /* not nested */

`ARRAY[...]` that holds numbers alone becomes a float32 vector or matrix, and the lifted text has `:__v0`, `:__v1`, ... in its
place: a parser would need tens of milliseconds for 1,536 numbers. Any other `ARRAY[...]` stays in the text. Everything after this
pass works with the tokens, so nobody else decides where a string ends.

Positions are offsets in characters from 0. Knows no grammar: what may follow what is said in outline.py and dialect.py.
"""

import bisect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from engine.tasks import codec
from engine.tasks.query.refusals import Refused, quoted

Vector = np.ndarray[Any, np.dtype[np.float32]]

MAX_TOKENS = 4096
MAX_VECTORS = 64
# No finite number needs as many: the shortest form of a float64 has at most 24 characters.
MAX_NUMBER_CHARACTERS = 400
# What stands for the first vector in a lifted text is `:__v0`. The names of parameters may not begin like that.
OWN_PREFIX = "__"

TokenKind = Literal["word", "name", "string", "number", "parameter", "vector", "operator"]

_TOKEN = re.compile(
    r"""
    (?P<blank>    \s++ | --[^\n\r]*+ | \#[^\n\r]*+ | /\*(?!\+)(?:[^*]++|\*(?!/))*+\*/ )
  | (?P<word>     [^\W\d]\w*+ )
  | (?P<number>   (?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+ )
  | (?P<string>   '[^']*+(?:''[^']*+)*+' )
  | (?P<name>     "[^"]*+(?:""[^"]*+)*+" )
  | (?P<refused>  <->|<=>|<\#>|<<->>|->>|->|=>|:=|/\*\+ )
  | (?P<parameter>\?|\$\w++ )
  | (?P<operator> ::|==|!=|<>|<=|>=|\|\||/(?!\*)|[=<>+\-*%^(),.;\[\]:] )
    """,
    re.VERBOSE,
)
_PARAMETER_NAME = re.compile(r"[^\W\d]\w*+")
_ARRAY_START = re.compile(r"\s*+\[")
_FLAT_NUMBERS = re.compile(r"[0-9eE+\-.,\s]*+\]")
_NESTED_NUMBERS = re.compile(r"[0-9eE+\-.,\s\[\]]*+")
_BRACKET = re.compile(r"[\[\]]")
_NUMBER = re.compile(r"\s*+[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+\s*+")

_DISTANCES = "Write l2_norm(a, b)."
_REFUSED_HINTS = {
    "<->": _DISTANCES,
    "<<->>": _DISTANCES,
    "<=>": "Write cosine_similarity(a, b).",
    "<#>": "Write dot(a, b).",
    "->": "Write column['key'].",
    "->>": "Write column['key'].",
    "/*+": "Write /* without the +.",
}
_UNTERMINATED = {"'": "The string has no end.", '"': "The name has no end.", "/": "The comment has no end."}
# These words cannot end an operand, so that a colon and a name behind them is a parameter also between brackets.
_OPERATOR_WORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "LIKE", "ILIKE", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE"})


class Token(NamedTuple):
    """One token of a lifted text.

    text   of a string or name, without its quotes; of a word, number or operator, as written; empty for parameters and vectors
    key    of a parameter: its position from 0, or its name; of a vector: its index
    start  offset of its first character in the lifted text
    end    offset behind its last character
    """

    kind: TokenKind
    text: str
    start: int
    end: int
    key: int | str = 0


@dataclass(slots=True)
class LiftedText:
    """A text without its vectors.

    text     the lifted text: the same for queries that differ in their vectors alone
    tokens   in order
    vectors  float32 [dim] or [rows, dim], in order
    numbers  the same numbers as they were written, as lists of int and float
    starts   offsets in the lifted text from which a shift holds, ascending
    shifts   what to add to an offset from there on, to get the offset in the text as sent
    """

    text: str
    tokens: list[Token]
    vectors: tuple[Vector, ...]
    numbers: tuple[list[Any], ...]
    starts: list[int]
    shifts: list[int]

    def offset_as_sent(self, at: int) -> int:
        """Offset in the text as sent of an offset in the lifted text."""
        return at + self.shifts[bisect.bisect_right(self.starts, at) - 1]


def lift(text: str) -> LiftedText:
    """Tokens and vectors of a text. Refused, with an offset in the text as sent, if it is not made of tokens or has too many."""
    nul = text.find("\0")
    if nul >= 0:
        raise Refused("syntax_error", "The text has a NUL character.", at=nul)
    return _Scanner(text).run()


@dataclass(slots=True)
class _Scanner:
    """The state of the pass.

    start    offset in the text as sent of what is read now
    shift    offset in the text as sent, less the offset in the lifted text
    opened   the opening brackets around what is read now; `[` stands for an index, `a` for an array
    """

    source: str
    start: int = 0
    shift: int = 0
    num_positional: int = 0
    tokens: list[Token] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    copied: int = 0
    vectors: list[Vector] = field(default_factory=list)
    numbers: list[list[Any]] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    shifts: list[int] = field(default_factory=lambda: [0])
    opened: list[str] = field(default_factory=list)

    def run(self) -> LiftedText:
        source, size, match_token = self.source, len(self.source), _TOKEN.match
        while self.start < size:
            match = match_token(source, self.start)
            if match is None:
                raise self._unexpected()
            kind = match.lastgroup
            if kind == "blank":
                self.start = match.end()
            else:
                _READERS[kind](self, match.group(), match.end())  # type: ignore[index]
                if len(self.tokens) > MAX_TOKENS:
                    raise self._refused(
                        "too_complex", f"The text has more than {MAX_TOKENS:,} tokens.", self.tokens[-1].start + self.shift
                    )
        self.pieces.append(source[self.copied :])
        lifted = "".join(self.pieces)
        return LiftedText(lifted, self.tokens, tuple(self.vectors), tuple(self.numbers), self.starts, self.shifts)

    def _unexpected(self) -> Refused:
        character = self.source[self.start]
        if character in _UNTERMINATED:
            return self._refused("syntax_error", _UNTERMINATED[character])
        return self._refused("syntax_error", f'Unexpected character "{character}".')

    def _refused(self, code: str, message: str, at: int | None = None, hint: str | None = None) -> Refused:
        return Refused(code, message, at=self.start if at is None else at, hint=hint)

    def _add(self, kind: TokenKind, text: str, end: int, key: int | str = 0) -> None:
        self.tokens.append(Token(kind, text, self.start - self.shift, end - self.shift, key))
        self.start = end

    def _is_glued(self) -> bool:
        """Whether the token before ends an operand, and nothing is between it and this one."""
        last = self.tokens[-1] if self.tokens else None
        return last is not None and last.end + self.shift == self.start and (last.kind != "operator" or last.text in ")]")

    def word(self, text: str, end: int) -> None:
        if self._is_glued() and self.tokens[-1].kind == "number":
            number = self.tokens[-1]
            raise self._refused("syntax_error", f'A number runs into "{quoted(text)}".', number.start + self.shift)
        if len(text) == 5 and text.upper() == "ARRAY" and not (self.tokens and self.tokens[-1].text == "."):
            opening = _ARRAY_START.match(self.source, end)
            if opening is not None and self._lift_array(opening.end()):
                return
        self._add("word", text, end)

    def number(self, text: str, end: int) -> None:
        if self._is_glued():
            raise self._refused("syntax_error", f'Unexpected number "{quoted(text)}".')
        if len(text) > MAX_NUMBER_CHARACTERS:
            raise self._refused("syntax_error", f"The number has more than {MAX_NUMBER_CHARACTERS} characters.")
        self._add("number", text, end)

    def string(self, text: str, end: int) -> None:
        if self.tokens and self.tokens[-1].kind == "string":
            raise self._refused("syntax_error", "A string follows a string.", hint="Join them with ||.")
        if self._is_glued() and self.tokens[-1].kind in ("word", "name", "number") and len(self.tokens[-1].text) == 1:
            raise self._refused("unsupported", "A string has no prefix.", self.tokens[-1].start + self.shift)
        self._add("string", text[1:-1].replace("''", "'"), end)

    def name(self, text: str, end: int) -> None:
        if end - self.start == 2:
            raise self._refused("syntax_error", "The name is empty.")
        self._add("name", text[1:-1].replace('""', '"'), end)

    def refused(self, text: str, end: int) -> None:
        raise self._refused("unsupported", f'"{text}" is not offered here.', hint=_REFUSED_HINTS.get(text))

    def parameter(self, text: str, end: int) -> None:
        if text == "?":
            self._add("parameter", "", end, self.num_positional)
            self.num_positional += 1
        elif self._is_glued():
            raise self._refused("syntax_error", f'Unexpected "{quoted(text)}".')
        elif text[1:].isascii() and text[1:].isdigit() and len(text) < 6 and int(text[1:]) > 0:
            self._add("parameter", "", end, int(text[1:]) - 1)
        else:
            self._named(text[1:], end)

    def _named(self, name: str, end: int) -> None:
        if name.startswith(OWN_PREFIX) or not name.isidentifier():  # as in `params`: a word may also begin with ²
            message = f'A parameter cannot be called "{quoted(name)}".'
            raise self._refused("bad_param", message, hint="$1 is the first; a name begins with a letter.")
        self._add("parameter", "", end, name)

    def operator(self, text: str, end: int) -> None:
        if text == ":" and (name := _PARAMETER_NAME.match(self.source, end)) is not None and not self._is_slice_colon():
            self._named(name.group(), name.end())
            return
        if text in "([":
            self.opened.append("a" if text == "[" and not self._has_operand() else text)
        elif text in ")]" and self.opened:
            self.opened.pop()
        self._add("operator", text, end)

    def _has_operand(self) -> bool:
        """Whether what was read last ends an operand."""
        if not self.tokens:
            return False
        last = self.tokens[-1]
        if last.kind == "operator":
            return last.text in (")", "]")
        return last.kind != "word" or last.text.upper() not in _OPERATOR_WORDS

    def _is_slice_colon(self) -> bool:
        """Whether a colon here parts the ends of a slice: `a[b:c]` is a slice, `a[:c]` has the parameter c."""
        return bool(self.opened) and self.opened[-1] == "[" and self._has_operand()

    def _lift_array(self, start: int) -> bool:
        """Lift the array whose items begin here; whether it holds numbers alone. Refused if it does, but is not a vector."""
        end = _numbers_end(self.source, start)
        if end is None:
            return False
        values = _values(self.source[start - 1 : end])
        if values is None:
            return False
        if len(self.vectors) == MAX_VECTORS:
            raise self._refused("too_complex", f"The text has more than {MAX_VECTORS} vectors.")
        self.vectors.append(self._vector(values, start))
        self.numbers.append(values)
        self._replace(end)
        return True

    def _vector(self, values: list[Any], start: int) -> Vector:
        """float32 of the numbers; all finite, and of a shape."""
        _check_shape(values, self.start)
        with np.errstate(over="ignore"):
            vector = np.array(values, dtype=np.float32)
        if not np.isfinite(vector).all():
            nth = int(np.flatnonzero(~np.isfinite(vector.reshape(-1)))[0])
            raise self._refused("bad_vector", "The number is not finite in float32.", _nth_number(self.source, start, nth))
        return vector

    def _replace(self, end: int) -> None:
        """Put a placeholder into the lifted text for what is in the text as sent up to here."""
        index = len(self.vectors) - 1
        placeholder = f":{OWN_PREFIX}v{index}"
        self.pieces += (self.source[self.copied : self.start], placeholder)
        start = self.start - self.shift
        self.tokens.append(Token("vector", "", start, start + len(placeholder), index))
        self.copied = self.start = end
        self.shift = end - start - len(placeholder)
        self.starts.append(start + len(placeholder))
        self.shifts.append(self.shift)


_READERS: dict[str, Callable[[_Scanner, str, int], None]] = {
    "word": _Scanner.word,
    "number": _Scanner.number,
    "string": _Scanner.string,
    "name": _Scanner.name,
    "refused": _Scanner.refused,
    "parameter": _Scanner.parameter,
    "operator": _Scanner.operator,
}


def _numbers_end(source: str, start: int) -> int | None:
    """Offset behind the bracket that ends an array of numbers; None if anything else is in it. `start` is behind its bracket."""
    flat = _FLAT_NUMBERS.match(source, start)
    if flat is not None:
        return flat.end()
    end = _NESTED_NUMBERS.match(source, start).end()  # type: ignore[union-attr]
    depth = 1
    for bracket in _BRACKET.finditer(source, start, end):
        depth += 1 if bracket.group() == "[" else -1
        if not depth:
            return bracket.end()
    return None


def _values(array: str) -> list[Any] | None:
    """The numbers of `[...]`, nested as written; None if they are not written as numbers between commas."""
    values = codec.numbers(array)
    if values is not None:
        return values
    # SQL writes more numbers than JSON does: +1, .5, 1., 007. Brackets and commas are the same in both.
    parts = re.split(r"([\[\],])", array)
    if not all(_NUMBER.fullmatch(part) or not part.strip() or part in "[]," for part in parts):
        return None
    return codec.numbers("".join(_json_number(part) for part in parts))


def _json_number(part: str) -> str:
    if part in ("[", "]", ",") or not part.strip():
        return part
    number = _sql_number(part.strip())
    # A number past float64 is past float32, and JSON has no word for it.
    return repr(max(-1e300, min(1e300, number)) if isinstance(number, float) else number)


def _sql_number(text: str) -> int | float:
    return int(text) if text.lstrip("+-").isdigit() and len(text) < MAX_NUMBER_CHARACTERS else float(text)


def _check_shape(values: list[Any], at: int) -> None:
    """Refused unless this is a list of numbers, or a list of lists of numbers with one length; not empty."""
    rows = values if values and isinstance(values[0], list) else [values]
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(lengths) > 1 or 0 in lengths or any(list in set(map(type, row)) for row in rows):
        message = "An ARRAY of numbers is a vector or a matrix: not empty, with rows of one length."
        raise Refused("bad_vector", message, at=at)


def _nth_number(source: str, start: int, nth: int) -> int:
    """Offset of a number of an array that begins here."""
    for number in re.compile(r"[^\s,\[\]]+").finditer(source, start):
        if not nth:
            return number.start()
        nth -= 1
    return start

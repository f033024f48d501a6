"""JSON on the record path: lines to records, results to lines. The only file of the replicas that imports a fast JSON library.

Reading: orjson parses a whole block in one call. A block that is not plain is read line by line, and a line that orjson refuses is
read by json, which also takes NaN, integers of any size and lone surrogates. Writing: orjson encodes a whole column in one call.
"""

import binascii
import json
import math
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson
import ujson

from engine.frames import LINE_END

Record = dict[str, Any]

# Joins the lines of a block into one JSON array. No sender can guess it, so no line can contain it: lines that are JSON only when
# joined, and lines with several values, never pass for a block with one object on each line.
SEPARATOR_VALUE = secrets.randbits(62)
SEPARATOR = b",%d," % SEPARATOR_VALUE
ONE_OBJECT_HINT = "(use --data-binary, one object per line)"
SEVERAL_VALUES = "it holds more than one JSON value; to send many records in one request, add ?bulk=true to the address"
# The results of this many records take about 5 MB, which is what a stream may hold in memory anyway; 1 MiB of `{}` would be half a
# million records and 160 MB of results.
MAX_LINE_RECORDS = 16 * 1024
MAX_ID_CHARACTERS = 1024
MAX_REASON_CHARACTERS = 200
# What may be an integer of more than 64 bits, which orjson would round to a float.
_LONG_DIGITS = re.compile(rb"[0-9]{19}")
MAX_DIGITS = 4000
# Characters of a text, or items, that `dumps_large` gives to orjson at once: it reserves 16 MiB for so many items.
PIECE_SIZE = 64 * 1024
# A text of orjson takes at least this much memory.
ORJSON_BYTES = 4096
_VALUE_GAP = re.compile(r"[ \t\r]*")


class TooLarge(float):
    """A number that is too large for a float, such as 1e400. An infinity that somebody wrote as `Infinity` is a plain float."""


def _float(text: str) -> float:
    value = float(text)
    return TooLarge(value) if math.isinf(value) else value


_decoder = json.JSONDecoder(parse_float=_float)


class Fault(NamedTuple):
    """Why a record gets an error instead of a result: a code of errors.RECORD_CODES and a sentence."""

    code: str
    reason: str


@dataclass(slots=True)
class Parsed:
    """The records of a block in the order of its lines.

    records  one entry for each record; where a line is not JSON, its Fault
    lines    index of each record's line in the block; None if every line is one record
    faults   index of a record -> why it is not one
    """

    records: list[Any]
    lines: list[int] | None = None
    faults: dict[int, Fault] = field(default_factory=dict)


class TooManyRecords(Exception):
    """Several lines share more records than one block should answer."""


def parse_block(raw: bytes, num_lines: int) -> Parsed:
    """The records of a block; each of its lines ends in a newline. TooManyRecords when objects share its lines and are too many."""
    records = plain_records(raw, num_lines)
    return _parse_lines(raw, num_lines) if records is None else Parsed(records)


def plain_records(raw: bytes, num_lines: int) -> list[Record] | None:
    """The records of a block that has one object on each line, and nothing that orjson refuses; None for any other block."""
    try:
        values = orjson.loads(b"[" + raw[:-1].replace(LINE_END, SEPARATOR) + b"]")
    except orjson.JSONDecodeError:
        return None
    if len(values) == 2 * num_lines - 1 and values[1::2].count(SEPARATOR_VALUE) == num_lines - 1:
        records: list[Record] = values[::2]
        if set(map(type, records)) == {dict}:
            return records
    return None


def _parse_lines(raw: bytes, num_lines: int) -> Parsed:
    """The careful way: read one line at a time, and skip blank ones."""
    parsed = Parsed([], [])
    max_records = max(num_lines, MAX_LINE_RECORDS)
    for i, line in enumerate(raw.split(LINE_END)[:-1]):
        line = line.strip(b" \t\r")
        if not line:
            continue
        for value in _parse_line(line):
            if isinstance(value, Fault):
                parsed.faults[len(parsed.records)] = value
            elif type(value) is not dict:
                parsed.faults[len(parsed.records)] = Fault("not_an_object", "is not a JSON object")
            parsed.records.append(value)
            parsed.lines.append(i)  # type: ignore[union-attr]
        if len(parsed.records) > max_records:
            raise TooManyRecords
    return parsed


def _parse_line(line: bytes) -> list[Any]:
    """The values of one line: usually one, several if objects share the line, a Fault if the line is not JSON."""
    try:
        return [orjson.loads(line)]
    except orjson.JSONDecodeError:
        pass
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return [Fault("invalid_json", f"is not JSON: byte {error.start + 1} is not UTF-8")]
    try:
        return [_decoder.decode(text)]
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _scan_values(text)
    except (ValueError, RecursionError):
        pass  # an integer of thousands of digits, or very deep nesting
    return [Fault("invalid_json", f"is not JSON: {_reason(text)}")]


def _reason(text: str) -> str:
    """Why a text is not JSON, in one line. ujson has the best messages, but it accepts numbers that JSON does not, such as `01`."""
    try:
        ujson.loads(text)
    except (ValueError, RecursionError) as error:
        return str(error)[:MAX_REASON_CHARACTERS]
    return "a number is not written as JSON writes numbers"


def _scan_values(text: str) -> list[Any]:
    """The consecutive JSON values of one line: `curl -d` removes the newlines of a file and so puts all its objects on one."""
    values: list[Any] = []
    position = 0
    try:
        while position < len(text):
            value, end = _decoder.raw_decode(text, position)
            if len(values) == MAX_LINE_RECORDS:
                return [Fault("too_many_records", f"has more than {MAX_LINE_RECORDS:,} records {ONE_OBJECT_HINT}")]
            values.append(value)
            position = _VALUE_GAP.match(text, end).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        return [Fault("invalid_json", f"is not JSON: data after the first value {ONE_OBJECT_HINT}")]
    return values


def number(text: str) -> Any:
    """The value of a text that should be a JSON number. ValueError if it is not JSON."""
    return _decoder.decode(text)


def parse_object(raw: bytes) -> Record | Fault:
    """The record of a single prediction: an object in JSON, which may extend over several lines."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            value = _decoder.decode(raw.decode())
        except UnicodeDecodeError:
            return Fault("invalid_json", "not UTF-8")
        except json.JSONDecodeError as error:
            is_many = error.msg == "Extra data" and error.doc[error.pos :].startswith(("{", "["))
            return Fault("invalid_json", SEVERAL_VALUES if is_many else _reason(error.doc))
        except (ValueError, RecursionError):
            return Fault("invalid_json", _reason(raw.decode(errors="replace")))
    if type(value) is list:
        return Fault("not_an_object", "send one object; for many use ?bulk=true")
    if type(value) is not dict:
        return Fault("not_an_object", "send one JSON object")
    return value


def strict_object(line: bytes, *, has_long_integers: bool = False) -> Record | Fault:
    """The record of one line that must hold exactly one object, in JSON without NaN, infinities and halves of surrogate pairs.

    has_long_integers  the line may hold integers of more than 64 bits, which orjson would round to floats; they stay integers
    """
    try:
        value = orjson.loads(line)
        if has_long_integers:
            value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return _strict_fault(line)
    return value if type(value) is dict else Fault("not_an_object", "is not a JSON object")


def _strict_fault(line: bytes) -> Fault:
    """Why a line is refused by the strict reader."""
    [value, *others] = _parse_line(line)
    if others:
        return Fault("not_an_object", "holds more than one JSON object")
    if isinstance(value, Fault):
        return value
    return Fault(
        "invalid_json",
        "is not JSON: NaN, an infinity, a number beyond float64, half a surrogate pair, or nested too deeply",
    )


def without_surrogates(text: str) -> str:
    """The text with U+FFFD in place of each lone half of a surrogate pair, which is not a character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class NotJson(Exception):
    """A text is not JSON; says at which byte from its start, and why."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def parse_json(raw: bytes) -> Any:
    """Any JSON value. What orjson refuses goes to json, which also takes NaN, long integers and lone surrogates. NotJson."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotJson(error.start, "it is not UTF-8") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise NotJson(len(text[: error.pos].encode()), error.msg) from None
    except (ValueError, RecursionError):
        raise NotJson(0, "a number is too long, or it is nested too deeply") from None


def parse_exactly(raw: bytes) -> Any:
    """Any JSON value, integers of any size as they are; also NaN and infinities, and bytes that are not UTF-8 as U+FFFD.

    raises  NotJson; RecursionError for a value that is nested too deeply for a parser; MemoryError
    """
    if not _LONG_DIGITS.search(raw):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
        except SystemError as error:  # this is how orjson ends where memory does
            raise MemoryError from error
    text = raw.decode(errors="replace")
    try:
        return json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        raise NotJson(len(text[: error.pos].encode()), error.msg) from None


def _integer(digits: str) -> int | str:
    """Python converts no integer of thousands of digits: it stays a text."""
    return int(digits) if len(digits) <= MAX_DIGITS else digits


# Rows of queries


def encode_lines(values: list[Any]) -> bytes:
    """Each value as one line of JSON with its newline. numpy arrays and `as_written` texts may be in the values."""
    if not values:
        return b""
    # One call for all lines is a hundred times as fast as one for each.
    separated = [SEPARATOR_VALUE] * (2 * len(values) - 1)
    separated[::2] = values
    return dumps(separated)[1:-1].replace(SEPARATOR, LINE_END) + LINE_END


def as_written(texts: list[str | None]) -> list[Any]:
    """JSON texts as values that `dumps` writes as they are, so that no digit of a number is lost; None stays.

    A text that is not JSON becomes null, and one with a value that JSON does not have, such as NaN, gets null in its place.
    """
    try:
        joined = ",".join([text for text in texts if text is not None])
        num_values = len(orjson.loads(f"[{joined}]"))
        is_plain = num_values == len(texts) - texts.count(None) and "\n" not in joined and "\r" not in joined
    except orjson.JSONDecodeError:
        is_plain = False
    if is_plain:
        return [None if text is None else orjson.Fragment(text) for text in texts]
    return [None if text is None else orjson.Fragment(_strict(text)) for text in texts]


def _strict(text: str) -> str:
    """One JSON text in strict JSON, on one line."""
    try:
        value = json.loads(text, parse_constant=lambda name: None, parse_float=_finite)
        return json.dumps(value, separators=(",", ":"))
    except (ValueError, RecursionError):
        return "null"


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# yhat_id


class Ids(NamedTuple):
    """The encoded yhat_ids of a block: the JSON text of record i's id is texts[i] between two `quote`s."""

    texts: list[bytes]
    quote: bytes

    def of(self, index: int) -> bytes:
        return self.quote + self.texts[index] + self.quote


def random_ids(count: int) -> list[bytes]:
    """Ids for records that have none: 16 random bytes each, as hex digits."""
    digits = secrets.token_hex(16 * count).encode()
    return [digits[i : i + 32] for i in range(0, 32 * count, 32)]


def encode_ids(records: Sequence[Any], line_of: Callable[[int], bytes]) -> tuple[Ids, dict[int, Fault]]:
    """The yhat_id of each record, made up for a record without one; and the faults, by index.

    line_of  gives the text that a record came from: an id goes back as it was written, but orjson turns integers over 64 bits into
             floats
    """
    try:
        values = [record.get("yhat_id") for record in records]
    except AttributeError:  # some are not objects
        values = [record.get("yhat_id") if type(record) is dict else None for record in records]
    kinds = set(map(type, values))
    if kinds == {str} and "" not in values and max(map(len, values)) <= MAX_ID_CHARACTERS:
        if encoded := plain_strings(values):
            return Ids(cut_strings(encoded), b'"'), {}
    elif kinds == {type(None)}:
        return Ids(random_ids(len(values)), b'"'), {}
    texts, faults = _encode_mixed_ids(values, line_of)
    return Ids(texts, b""), faults


def _encode_mixed_ids(values: list[Any], line_of: Callable[[int], bytes]) -> tuple[list[bytes], dict[int, Fault]]:
    ids, faults = [b'"' + digits + b'"' for digits in random_ids(len(values))], {}
    for i, value in enumerate(values):
        if value is None or value == "":
            continue
        if type(value) is float and abs(value) >= 2**63:
            value = _exact_id(line_of(i), value)
        text = _encode_id(value)
        if text is None:
            faults[i] = Fault("invalid_yhat_id", "yhat_id must be a string or a number of at most 1024 characters")
        else:
            ids[i] = text
    return ids, faults


def _exact_id(line: bytes, value: float) -> Any:
    """The id as its line has it: json keeps all digits of an integer."""
    try:
        return json.loads(line)["yhat_id"]
    except (ValueError, LookupError, TypeError):
        return value


def _encode_id(value: Any) -> bytes | None:
    """The JSON text of one id, or None if the value cannot be an id."""
    if type(value) is str:
        return None if len(value) > MAX_ID_CHARACTERS else dumps(value)
    if type(value) is int:
        try:
            text = b"%d" % value
        except ValueError:  # more digits than Python converts
            return None
        return text if len(text) <= MAX_ID_CHARACTERS else None
    if type(value) is float and math.isfinite(value):
        return _trimmed(orjson.dumps(value))
    return None


# Columns of results


def dumps(value: Any) -> bytes:
    """Compact JSON of any value; ujson encodes what orjson refuses (lone surrogates, huge integers)."""
    try:
        return _trimmed(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
    except TypeError:
        return ujson.dumps(value, escape_forward_slashes=False).encode()


def dumps_large(value: Any) -> bytes:
    """The same bytes, for a value of any size: orjson gets a long text, list or object in pieces.

    orjson reserves memory before it writes: 256 bytes for each item of a list, and up to 16 for each byte of a text. Where a limit
    refuses that, orjson ends the process instead of raising MemoryError.
    """
    if not _is_large(value):
        return dumps(value)
    if isinstance(value, str):
        return b'"%b"' % b"".join(dumps(value[i : i + PIECE_SIZE])[1:-1] for i in range(0, len(value), PIECE_SIZE))
    if isinstance(value, dict):
        return b"{%b}" % b",".join(dumps(str(name)) + b":" + dumps_large(one) for name, one in value.items())
    return b"[%b]" % b",".join(_item_texts(value))


def _item_texts(items: list[Any]) -> Iterator[bytes]:
    for i in range(0, len(items), PIECE_SIZE):
        piece = items[i : i + PIECE_SIZE]
        if any(map(_is_large, piece)):
            yield from map(dumps_large, piece)
        else:
            yield dumps(piece)[1:-1]


def _is_large(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) > PIECE_SIZE
    if kind is list or kind is dict:
        return len(value) > PIECE_SIZE or any(map(_is_large, value if kind is list else value.values()))
    return False


def _trimmed(text: bytes) -> bytes:
    """The same bytes in no more memory than they need: orjson leaves 4 KiB with each text, which is 800 MB for 200,000 cells."""
    return b"%b" % text if len(text) < ORJSON_BYTES else text


def encode_table_lines(names: Sequence[str], columns: Sequence[list[Any]]) -> bytes:
    """Rows as lines of JSON objects; the columns are lists of one length.

    Also takes bytes (as base64), dates, instants (those without a zone are in UTC), decimals and other values (as their text).
    """
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
    rows = zip(*columns, strict=True)
    return b"".join([orjson.dumps(dict(zip(names, row, strict=True)), _foreign, option) for row in rows])


def _foreign(value: Any) -> str:
    return binascii.b2a_base64(value, newline=False).decode() if isinstance(value, bytes) else str(value)


def plain_strings(values: list[str]) -> bytes | None:
    """The strings as a JSON list. None if one of them must be escaped or is not Unicode."""
    try:
        encoded = orjson.dumps(values)
    except TypeError:
        return None
    return None if b"\\" in encoded else encoded


def cut_strings(encoded: bytes) -> list[bytes]:
    """The texts between the quotes of a list that `plain_strings` made, which is not empty.

    A quote inside a string would need a backslash. Without one the bytes `","` occur only between strings.
    """
    return encoded[2:-2].split(b'","')


def encode_numbers(values: np.ndarray) -> list[bytes]:
    """The JSON text of each number of a vector: the shortest digits that give the same float; null for NaN and infinities.

    values  [N], any numeric or boolean dtype
    """
    if not len(values):
        return []
    return orjson.dumps(_plain(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def encode_items(values: np.ndarray) -> bytes:
    """The JSON text of all elements, in C order and without brackets; null for NaN and infinities.

    values  any shape; numbers, booleans, or strings as objects
    """
    flat = values.reshape(-1)
    if flat.dtype == object:
        return dumps(flat.tolist())[1:-1]
    flat = flat.astype(np.float32) if flat.dtype == np.float16 else flat
    return orjson.dumps(_plain(flat), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def encode_rows(values: np.ndarray) -> list[bytes]:
    """The JSON text of each row, without its outer brackets.

    values  [N, k, ...]; no axis has length 0
    """
    between = b"]" * (values.ndim - 1) + b"," + b"[" * (values.ndim - 1)
    encoded = orjson.dumps(_plain(values), option=orjson.OPT_SERIALIZE_NUMPY)
    inner = encoded[values.ndim : -values.ndim].split(between)
    more = values.ndim - 2
    return [b"[" * more + row + b"]" * more for row in inner] if more else inner


def encode_vectors(values: np.ndarray) -> list[bytes]:
    """The JSON text of each row, with its brackets.

    values  float32 [N, k], k above 0
    """
    return [b"[%b]" % row for row in encode_rows(values)] if len(values) else []


def encode_base64(values: np.ndarray) -> list[bytes]:
    """Each row of [N, k] as a JSON string: base64 (standard alphabet, padded) of its little-endian float32 bytes."""
    rows = np.ascontiguousarray(values, dtype="<f4")
    return [b'"%b"' % binascii.b2a_base64(row, newline=False) for row in rows]


def _plain(values: np.ndarray) -> np.ndarray:
    """The array as orjson takes it: in C order, its bytes in the order of this machine."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def numbers(text: str) -> list[Any] | None:
    """The items of a JSON array; None if the text is not JSON, or has a number that no float64 holds."""
    try:
        items: list[Any] = orjson.loads(text)
        return items
    except orjson.JSONDecodeError:
        return None

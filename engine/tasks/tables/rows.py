"""The lines of a stream's answer as columns. Nearly all lines of a stream are alike, and those are taken together."""

from collections.abc import Sequence
from typing import Any

from engine.tasks import codec

ID = "yhat_id"
ERROR = ("code", "error")

Row = dict[str, Any]
# The columns of some rows by name; None stands where a row has no value.
Table = dict[str, list[Any]]


def table_of(lines: Sequence[bytes]) -> Table:
    """The columns of some lines of an answer, at least one. `yhat_id` comes first."""
    answers = codec.parse_json(b"[%b]" % b",".join(lines))
    return _alike(answers) or _unlike([*map(row_of, answers)])


def _alike(answers: Sequence[Row]) -> Table | None:
    """The columns of lines that all have a result with the same keys; None for others. The fast way."""
    results: list[Any] = [answer.get("result") for answer in answers]
    keys = _common_keys(results)
    if keys is None:
        return None
    columns: list[tuple[str, list[Any]]] = [(ID, [answer[ID] for answer in answers])]
    for name in keys:
        values = [result[name] for result in results]
        if dict not in set(map(type, values)):
            columns.append((column_name(name), values))
            continue
        inner = _common_keys(values)
        if inner is None:
            return None
        columns += [(column_name(f"{name}.{key}"), [value[key] for value in values]) for key in inner]
    table = dict(columns)
    return table if len(table) == len(columns) else None


def _common_keys(values: Sequence[Any]) -> list[str] | None:
    """The keys that all values have, in the order of the first; None unless all are objects with the same keys."""
    if set(map(type, values)) != {dict}:
        return None
    keys = values[0].keys()
    return [*keys] if all(value.keys() == keys for value in values) else None


def _unlike(rows: Sequence[Row]) -> Table:
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def row_of(answer: Row) -> Row:
    """The row of one line: its id, and its result or its error."""
    if "result" not in answer:
        return {name: answer[name] for name in (ID, *ERROR) if name in answer}
    result = answer["result"]
    row = {ID: answer[ID]}
    for name, value in result.items() if isinstance(result, dict) else [("result", result)]:
        inner = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        row |= {column_name(key): one for key, one in inner.items()}
    return row


def column_name(name: str) -> str:
    """The name of a column, which must be another than those of the id and the error."""
    return f"result.{name}" if name in (ID, *ERROR) else name


def in_order(names: Sequence[str]) -> list[str]:
    """The names of the columns of a table in their order."""
    inner = [name for name in names if name not in (ID, *ERROR)]
    return [name for name in (ID, *inner, *ERROR) if name in names]


def text_of(value: Any) -> str:
    """A string as it is, and anything else as JSON."""
    return value if isinstance(value, str) else codec.dumps(value).decode()

"""Features: the types of columns as README.md or a Parquet file declares them, in the one form that answers have.

{"dtype": "int64", "_type": "Value"}            a scalar, by its Arrow word
{"names": [..], "_type": "ClassLabel"}
{"_type": "Image"}  {"_type": "Audio"}
{"feature": .., "_type": "List"}
{"name": feature, ..}                           an object
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from engine.tasks.preview.failures import ParserError
from engine.tasks.preview.kinds import value_feature

IMAGE, AUDIO = {"_type": "Image"}, {"_type": "Audio"}
_LISTS = ("List", "LargeList", "Sequence")
_WORDS = {
    "double": "float64",
    "float": "float32",
    "halffloat": "float16",
    "large_string": "string",
    "string_view": "string",
    "utf8": "string",
}
MAX_DEPTH = 32


def is_value(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Value"


def dtype_of(feature: Any) -> str:
    """The Arrow word of a scalar, else an empty text."""
    return str(feature["dtype"]) if is_value(feature) else ""


def kind_of(feature: Any) -> str:
    """`Value`, `ClassLabel`, `Image`, `Audio`, `List`, or `object`."""
    kind = feature.get("_type") if isinstance(feature, dict) else None
    return kind if isinstance(kind, str) else "object"


def has_media(feature: Any) -> bool:
    """Whether there are pictures or sounds in it, at any depth."""
    kind = kind_of(feature)
    if kind == "List":
        return has_media(feature["feature"])
    return kind in ("Image", "Audio") or (kind == "object" and any(map(has_media, feature.values())))


def declared(given: Any) -> dict[str, Any] | None:
    """The features of README.md by column: a list of `{name, dtype ..}`, or a mapping. None for none. ParserError."""
    if given is None:
        return None
    try:
        if isinstance(given, list):
            return _fields(given, 0)
        if isinstance(given, dict):
            return {str(name): _feature(one, 0) for name, one in given.items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ParserError):
            raise
        raise ParserError(f"README.md: the features cannot be read: {error!r}") from error
    raise ParserError("README.md: `features` is neither a list nor a mapping")


def _fields(given: list[Any], depth: int) -> dict[str, Any]:
    return {str(one["name"]): _of_entry(one, depth + 1) for one in given}


def _of_entry(entry: Mapping[str, Any], depth: int) -> Any:
    """One entry of a list: `dtype`, or `sequence`, `list` or `struct` in its place."""
    if depth > MAX_DEPTH:
        raise ParserError(f"README.md: features are nested more than {MAX_DEPTH} levels deep")
    for word in ("list", "large_list", "sequence"):
        if word in entry:
            return _list(_of_item(entry[word], depth))
    if "struct" in entry:
        return _fields(entry["struct"], depth)
    if "dtype" not in entry:
        raise ParserError(f"README.md: the feature {str(entry.get('name'))[:100]!r} has no dtype")
    return _of_dtype(entry["dtype"], depth)


def _of_item(item: Any, depth: int) -> Any:
    if isinstance(item, list):
        return _fields(item, depth)
    return (
        _of_entry(item, depth + 1) if isinstance(item, dict) and "_type" not in item and _is_entry(item) else _of_dtype(item, depth)
    )


def _is_entry(item: Mapping[str, Any]) -> bool:
    return bool({"dtype", "list", "sequence", "struct", "large_list"} & item.keys())


def _of_dtype(dtype: Any, depth: int) -> Any:
    """A word, or a mapping with one key such as `class_label`."""
    if isinstance(dtype, str):
        named = {"image": IMAGE, "audio": AUDIO}
        return named.get(dtype) or value_feature(_WORDS.get(dtype, dtype))
    if "_type" in dtype:
        return _feature(dtype, depth)
    [(kind, about)] = dtype.items()
    if kind == "class_label":
        return _class_label((about or {}).get("names"))
    if kind in ("image", "audio"):
        return IMAGE if kind == "image" else AUDIO
    if kind.startswith("array"):
        return _array(about["shape"], about["dtype"])
    return value_feature("json")


def _feature(given: Any, depth: int) -> Any:
    """A feature in the form of JSON: `_type` says what it is."""
    if depth > MAX_DEPTH:
        raise ParserError(f"features are nested more than {MAX_DEPTH} levels deep")
    if isinstance(given, str):
        return _of_dtype(given, depth)
    if isinstance(given, list):
        return _list(_feature(given[0], depth + 1))
    kind = given.get("_type")
    if kind is None or isinstance(kind, dict):
        return {str(name): _feature(one, depth + 1) for name, one in given.items()}
    if kind == "Value":
        return value_feature(_WORDS.get(given["dtype"], str(given["dtype"])))
    if kind == "ClassLabel":
        return _class_label(given.get("names"))
    if kind in ("Image", "Audio"):
        return IMAGE if kind == "Image" else AUDIO
    if kind in _LISTS:
        return _list(_feature(given["feature"], depth + 1))
    if kind.startswith("Array"):
        return _array(given["shape"], given["dtype"])
    return value_feature("json")


def _class_label(names: Any) -> dict[str, Any]:
    """Names as a list, or by their index."""
    if isinstance(names, dict):
        by_index = {int(index): str(name) for index, name in names.items()}
        if sorted(by_index) != list(range(len(by_index))):
            raise ParserError("the labels of a class do not count from 0")
        names = [by_index[i] for i in range(len(by_index))]
    return {"names": [str(name) for name in names or ()], "_type": "ClassLabel"}


def _list(feature: Any) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}


def _array(shape: list[Any], dtype: str) -> Any:
    feature: Any = value_feature(_WORDS.get(dtype, dtype))
    for _ in shape[:MAX_DEPTH]:
        feature = _list(feature)
    return feature


# Parquet


def of_schema(schema: pa.Schema) -> dict[str, Any]:
    """The features of a Parquet file: those that its writer noted, else those of its Arrow types."""
    noted = _noted(schema)
    return {field.name: noted.get(field.name) or of_arrow(field.type) for field in schema}


def _noted(schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None or len(raw) > 1024 * 1024:
        return {}
    try:
        return declared(json.loads(raw)["info"]["features"]) or {}
    except (ValueError, LookupError, TypeError, RecursionError):  # a note that cannot be read is none: the types are there
        return {}


def of_arrow(kind: pa.DataType) -> Any:
    """The feature of an Arrow type."""
    if pa.types.is_dictionary(kind):
        return of_arrow(kind.value_type)
    if pa.types.is_struct(kind) and kind.num_fields:
        return {field.name: of_arrow(field.type) for field in kind}
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if is_list:
        return _list(of_arrow(kind.value_type))
    text = str(kind)
    return value_feature(_WORDS.get(text, text.removeprefix("large_")))

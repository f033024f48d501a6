"""Data types: what a value of a query is, what two of them have in common, and what each is called in SQL and in Arrow.

Knows no columns and no text of a query.
"""

from dataclasses import dataclass

import pyarrow as pa

from engine.tasks.query.segments import ARROW_TYPES, ColumnInfo


@dataclass(frozen=True, slots=True)
class DataType:
    """The type of a value.

    name   bool int float32 float64 string bytes timestamp date json class list vector matrix interval null
    item   of a list
    dim    of a vector, and of the rows of a matrix
    names  of a class, by its index
    """

    name: str
    item: "DataType | None" = None
    dim: int = 0
    names: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        return self.name in ("int", "float32", "float64")

    @property
    def is_float(self) -> bool:
        return self.name in ("float32", "float64")

    @property
    def is_list(self) -> bool:
        """Whether it has elements by position: a list or a vector."""
        return self.name in ("list", "vector")

    @property
    def element(self) -> "DataType":
        """The type of what a list, a vector or a matrix holds."""
        if self.name == "list" and self.item is not None:
            return self.item
        return DataType("vector", dim=self.dim) if self.name == "matrix" else FLOAT32

    def __str__(self) -> str:
        """The type as an error writes it."""
        if self.name == "vector":
            return f"vector({self.dim})"
        return f"list<{self.item}>" if self.name == "list" else self.name


BOOL, INT, FLOAT32, FLOAT64, STRING, BYTES, TIMESTAMP, DATE, JSON, INTERVAL, NULL = (
    DataType(name)
    for name in ("bool", "int", "float32", "float64", "string", "bytes", "timestamp", "date", "json", "interval", "null")
)

_STORED = {
    "bool": BOOL,
    "int64": INT,
    "float64": FLOAT64,
    "string": STRING,
    "bytes": BYTES,
    "timestamp": TIMESTAMP,
    "date": DATE,
    "json": JSON,
}
# A null is of any type.
_SQL = {
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "bytes": "BLOB",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "json": "VARCHAR",
    "class": "BIGINT",
    "interval": "INTERVAL",
    "null": "BOOLEAN",
    "vector": "FLOAT[]",
    "matrix": "FLOAT[][]",
}
_ARROW = {
    **{data_type.name: ARROW_TYPES[dtype] for dtype, data_type in _STORED.items()},
    "float32": pa.float32(),
    "class": ARROW_TYPES["class"],
    "null": pa.null(),
}


def list_of(item: DataType) -> DataType:
    return DataType("list", item=item)


def vector_of(dim: int) -> DataType:
    return DataType("vector", dim=dim)


def stored_type(column: ColumnInfo) -> DataType:
    """Type of the values of a stored column."""
    if column.dtype == "vector":
        return vector_of(column.dim)
    if column.dtype == "class":
        return DataType("class", names=column.names)
    if column.dtype.startswith("list<"):
        return list_of(_STORED[column.dtype[5:-1]])
    return _STORED[column.dtype]


def sql_type(data_type: DataType) -> str:
    """A vector is a list in SQL: so no type holds a number."""
    if data_type.name == "list":
        return sql_type(data_type.element) + "[]"
    return _SQL[data_type.name]


def arrow_type(data_type: DataType) -> pa.DataType:
    """Type of an output column; an interval has none. Nulls in a list have the type that they have in SQL."""
    if data_type.name == "matrix":
        return pa.list_(pa.list_(pa.float32()))
    if data_type.name == "vector":
        return pa.list_(pa.float32(), data_type.dim)
    if data_type.name == "list":
        return pa.list_(pa.bool_() if data_type.element == NULL else arrow_type(data_type.element))
    return _ARROW[data_type.name]


def common_type(left: DataType, right: DataType) -> DataType | None:
    """The type that holds values of both, such as of the branches of a CASE; None if there is none."""
    if left == right or right == NULL:
        return left
    if left == NULL:
        return right
    if left.is_number and right.is_number:
        return FLOAT64
    names = {left.name, right.name}
    if names == {"date", "timestamp"}:
        return TIMESTAMP
    if names <= {"class", "string"}:
        return STRING
    if left.is_list and right.is_list and "list" in (left.name, right.name):
        item = common_type(left.element, right.element)
        return None if item is None else list_of(item)
    return None


def kind_of(data_type: DataType) -> str:
    """The kind that the output of a query has for it, such as `list<int>`; the numbers of a vector have none."""
    if data_type.name == "matrix":
        return "list<vector>"
    return f"list<{kind_of(data_type.element)}>" if data_type.name == "list" else data_type.name

"""Tiny graphs to publish, and their configs. The answer of `times` shows which version gave it.

times     x -> y = x * factor, for floats [N]
row       X [N,k] -> y [N,1], the sum of the row
mean      x -> x minus the mean of its batch: a graph that mixes its records
constant  x -> one number, whatever the batch
slow      n -> n, after n turns of a loop, about a microsecond each
hungry    n -> n, after filling an array of n floats
"""

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from tests.streaming import graphs

DATA = Path(__file__).parent.parent / "data"
# About how many turns `slow` makes in a second.
TURNS_A_SECOND = 500_000


def config(**keys: Any) -> dict[str, Any]:
    """The config of `times`, with some keys changed."""
    inputs = [{"kind": "column", "input": "x", "field": "x"}]
    return {"task": "predict", "inputs": inputs, "outputs": [{"output": "y", "as": "y"}], "example": {"x": 1.0}} | keys


def counting(count: int) -> dict[str, Any]:
    """The config of `slow` or `hungry`, whose example has this number of turns or floats."""
    return config(inputs=[{"kind": "column", "input": "count", "field": "count"}], outputs=[TURNED], example={"count": count})


TURNED = {"output": "turned", "as": "turned"}


def value(name: str, kind: int, *shape: str | int | None) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any] | None = None,
    domains: dict[str, int] | None = None,
) -> bytes:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants or [])
    opsets = [helper.make_opsetid(domain, number) for domain, number in ({"": 20} | (domains or {})).items()]
    text: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return text


FLOAT = TensorProto.FLOAT
X, Y = value("x", FLOAT, "N"), value("y", FLOAT, "N")


def times(factor: float) -> bytes:
    return model([helper.make_node("Mul", ["x", "factor"], ["y"])], [X], [Y], [helper.make_tensor("factor", FLOAT, [], [factor])])


def row(width: int) -> bytes:
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["X", "axes"], ["y"])
    return model([node], [value("X", FLOAT, None, width)], [value("y", FLOAT, None, 1)], [axes])


def mean() -> bytes:
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], keepdims=1), helper.make_node("Sub", ["x", "m"], ["y"])]
    return model(nodes, [X], [Y])


def constant() -> bytes:
    return model([helper.make_node("ReduceMean", ["x"], ["y"], keepdims=1)], [X], [value("y", FLOAT, 1)])


def slow() -> bytes:
    return graphs._turns()


def deadly() -> bytes:
    return graphs._divide()


def hungry() -> bytes:
    nodes = [
        helper.make_node("ReduceSum", ["count"], ["total"], keepdims=1),
        helper.make_node("ConstantOfShape", ["total"], ["array"]),
        helper.make_node("ReduceMax", ["array"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["nothing"], to=TensorProto.INT64),
        helper.make_node("Add", ["count", "nothing"], ["turned"]),
    ]
    return model(nodes, [value("count", TensorProto.INT64, "N")], [value("turned", TensorProto.INT64, "N")])


def external(location: str) -> bytes:
    """The graph of `times`, with its factor in another file."""
    factor = TensorProto(name="factor", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    factor.external_data.add(key="location", value=location)
    return model([helper.make_node("Mul", ["x", "factor"], ["y"])], [X], [Y], [factor])


def identities(*shapes: tuple[str, int, tuple[Any, ...]]) -> bytes:
    """A graph that returns every input unchanged, under its name with `_out`."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in shapes]
    ends = [[value(name + end, kind, *shape) for name, kind, shape in shapes] for end in ("", "_out")]
    return model(nodes, *ends)


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, **attributes)


def numbers(name: str, values: list[int]) -> Any:
    """A constant of 64-bit integers."""
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def foreign() -> bytes:
    return model([helper.make_node("Mul", ["x", "x"], ["y"], domain="evil")], [X], [Y], domains={"evil": 1})

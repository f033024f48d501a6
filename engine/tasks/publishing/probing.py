"""The task `providers`: can models be opened on these execution providers here? Opens the smallest graph on them."""

from onnx import TensorProto, helper

from engine.frames import Header
from engine.tasks.scoring.sessions import MissingProvider, open_session


def probe(header: Header) -> Header:
    """The answer has `missing`, one sentence, if a provider cannot be used.

    header  providers
    """
    answer: Header = {}
    try:
        open_session(_smallest_graph(), header["providers"])
    except MissingProvider as missing:
        answer["missing"] = str(missing)
    return {"parts": [{"size": 0, **answer}]}


def _smallest_graph() -> bytes:
    """x -> x, one float."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "smallest", [x], [y])
    text: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    return text

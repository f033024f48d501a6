"""An uploaded ONNX file: what is in it, and whether the server may run it at all. Nothing is run here.

Reads the protobuf with the `onnx` package and walks every message in it, so that nothing hides in a corner of the format. Knows
nothing of config.json.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

# The domains whose operators are part of onnxruntime. Others would need libraries, which are code of the sender.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# glibc has this locale built in. The one that skl2onnx writes (en_US.UTF-8) must be installed.
PLAIN_LOCALE = b"C.UTF-8"
# Operators that keep the values of a column, and change only its shape or type.
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
INTEGERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32})
# A table with more numbers is no list of classes.
MAX_CLASSES = 10_000


class Unfit(Exception):
    """The files cannot be served as a model; one sentence for the person who sent them, without a path."""


# How files of other formats begin, and what their owner can do. A pickle begins with its protocol; a pickle is a program, so it is
# never opened here. joblib writes pickles, packed or not, and PyTorch puts them into a zip file.
_TO_ONNX = "convert the model on the machine where it was trained, with skl2onnx (scikit-learn), onnxmltools (LightGBM, XGBoost)"
OTHER_FORMATS = {
    **{b"\x80" + bytes([protocol]): f"the file is a pickle, which could run any code: {_TO_ONNX}" for protocol in range(2, 6)},
    b"PK\x03\x04": "the file is a zip file, such as PyTorch saves: export the model with torch.onnx.export and send the .onnx file",
    b"\x89HDF\r\n": "the file is HDF5, such as Keras saves: convert the model with tf2onnx and send the .onnx file",
    **{head: f"the file is compressed, as joblib writes pickles: {_TO_ONNX}" for head in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")},
    b"{": "the file is JSON: send the graph itself as the body, and a config as the part `config` of a form",
}


def _no_graph(raw: bytes) -> Unfit:
    """The refusal of a file that is no graph: by its first bytes it may be something that can be converted."""
    told = next((text for head, text in OTHER_FORMATS.items() if raw.startswith(head)), None)
    return Unfit("the file is not an ONNX graph" if told is None else f"the file is not an ONNX graph: {told}")


class OnnxFile:
    """One model.onnx. Unfit if it is not an ONNX graph."""

    def __init__(self, path: Path) -> None:
        self._path = path
        raw = path.read_bytes()
        try:
            self._proto = onnx.ModelProto.FromString(raw)
        except DecodeError:
            raise _no_graph(raw) from None
        if not self._proto.HasField("graph"):
            raise _no_graph(raw)

    def refuse_foreign(self, data_files: set[str]) -> None:
        """Unfit for operators of other domains, and for tensors outside the uploaded files.

        data_files  names of the uploaded files that may hold tensors; each of them must hold one
        """
        used = set()
        for message in _messages(self._proto):
            if isinstance(message, onnx.NodeProto | onnx.OperatorSetIdProto | onnx.FunctionProto):
                _check_domain(message)
            elif isinstance(message, onnx.TensorProto) and message.data_location == onnx.TensorProto.EXTERNAL:
                used.add(_checked_location(message, data_files))
        if unused := sorted(data_files - used):
            raise Unfit(f"the graph has no tensor in the file '{unused[0]}'")

    def with_plain_locale(self) -> bool:
        """Rewrite the file with a locale that every system has. False, and nothing written, if no operator in it names one."""
        nodes = [node for node in _messages(self._proto) if isinstance(node, onnx.NodeProto) and node.op_type == "StringNormalizer"]
        for node in nodes:
            others = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*others, onnx.helper.make_attribute("locale", PLAIN_LOCALE)])
        if nodes:
            self._path.write_bytes(self._proto.SerializeToString(deterministic=True))
        return bool(nodes)

    def categories(self) -> dict[tuple[str, int], Any]:
        """(input, column) -> a value that the column's one-hot encoder knows: encoders of skl2onnx refuse all others by default.

        Call this only after a session has opened the graph: it then has no cycles, and every node has its inputs.
        """
        makers = {output: node for node in self._proto.graph.node for output in node.output}
        found: dict[tuple[str, int], Any] = {}
        for node in self._proto.graph.node:
            values = _categories(node) if node.op_type == "OneHotEncoder" else []
            if values and (place := self._source(node.input[0], makers)):
                found.setdefault(place, values[0])
        return found

    def classes(self) -> dict[str, list[int]]:
        """Output -> the integers that its classifier can give, for the outputs that come from one. Call it as `categories`."""
        makers = {output: node for node in self._proto.graph.node for output in node.output}
        found: dict[str, list[int]] = {}
        for value in self._proto.graph.output:
            name = value.name
            while (node := makers.get(name)) is not None and node.op_type in TRANSPARENT:
                name = node.input[0]
            if node is not None and name == node.output[0] and (numbers := self._class_numbers(node)):
                found[value.name] = numbers
        return found

    def _class_numbers(self, node: onnx.NodeProto) -> list[int]:
        """The classes of a classifier, or of a table from which its classes are taken; empty if they are no integers."""
        for attribute in node.attribute:
            if attribute.name in ("classlabels_ints", "classlabels_int64s"):
                return list(attribute.ints)
        if node.op_type in ("ArrayFeatureExtractor", "Gather"):
            for tensor in self._proto.graph.initializer:
                if tensor.name == node.input[0] and tensor.data_type in INTEGERS and is_inside(tensor):
                    return [int(number) for number in onnx.numpy_helper.to_array(tensor).ravel()[:MAX_CLASSES]]
        return []

    def _source(self, name: str, makers: dict[str, onnx.NodeProto]) -> tuple[str, int] | None:
        """The graph's input and column that a tensor comes from. None if an operator on the way changes the values.

        makers  tensor -> the node whose output it is
        """
        column = 0
        while (node := makers.get(name)) is not None:
            if node.op_type in ("Gather", "ArrayFeatureExtractor"):
                column = self._constant(node.input[1])
            elif node.op_type not in TRANSPARENT:
                return None
            name = node.input[0]
        return (name, column) if any(value.name == name for value in self._proto.graph.input) else None

    def _constant(self, name: str) -> int:
        """The first element of an integer initializer; 0 if there is none."""
        for tensor in self._proto.graph.initializer:
            if tensor.name == name and is_inside(tensor):
                return int(onnx.numpy_helper.to_array(tensor).ravel()[0])
        return 0


def is_inside(tensor: onnx.TensorProto) -> bool:
    """Whether the values of a tensor are in the graph's own file."""
    return bool(tensor.data_location != onnx.TensorProto.EXTERNAL)


def _messages(root: Message) -> Iterator[Message]:
    """Every message inside: the nodes and tensors of the graph, of its sub-graphs and functions, and anywhere else."""
    waiting = [root]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                waiting.extend([value] if isinstance(value, Message) else value)


def _check_domain(message: Message) -> None:
    if message.domain not in DOMAINS:
        allowed = ", ".join(sorted(DOMAINS - {""}))
        raise Unfit(f"operators of the domain '{message.domain[:100]}' are not allowed; these are: {allowed}")


def _checked_location(tensor: onnx.TensorProto, data_files: set[str]) -> str:
    """The name of the uploaded file that holds an external tensor. Unfit if it is not one of them."""
    locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
    if len(locations) == 1 and locations[0] in data_files:
        return locations[0]
    if len(locations) == 1 and locations[0] and "/" not in locations[0] and "\\" not in locations[0]:
        raise Unfit(f"a tensor lies in the file '{locations[0][:100]}': send it as the part 'data', with this file name")
    raise Unfit("a tensor lies outside of the model's folder: external data needs the plain name of a file that is sent with it")


def _categories(node: onnx.NodeProto) -> list[Any]:
    """The values that a one-hot encoder knows: strings or integers."""
    for attribute in node.attribute:
        if attribute.name == "cats_strings":
            return [text.decode("utf-8", "replace") for text in attribute.strings]
        if attribute.name == "cats_int64s":
            return list(attribute.ints)
    return []

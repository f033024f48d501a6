"""Models that do harm although they answer their example: the check, the warm-up and one request do not show it.

They belong to `tester`, whom the server does not trust. `turns` and `divide` of graphs.py are of this sort, too.

swells   its tokenizer makes each letter `a` a hundred letters, four times over: a dozen letters become gigabytes
panics   its tokenizer has a regular expression that explodes on many letters `x`: the library panics after about 0.2 s
"""

from pathlib import Path
from typing import Any

from onnx import TensorProto, helper
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from tests.streaming import graphs

# What each model is asked to do harm, and something that it answers: (record, record).
HARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "turns": ({"count": graphs.FOREVER}, {"count": 1}),
    "divide": ({"divisor": -1}, {"divisor": 1}),
    "swells": ({"text": "a" * 40}, {"text": "b"}),
    "panics": ({"text": "x" * 60}, {"text": "b"}),
}


def write_all(data_dir: Path) -> Path:
    """Write all models of this file and of graphs.py into `data_dir`/models; returns `data_dir`."""
    graphs.write_all(data_dir)
    swelling = _tokenizer()
    swelling.normalizer = normalizers.Sequence([normalizers.Replace("a", "a" * 100)] * 4)
    panicking = _tokenizer()
    panicking.pre_tokenizer = pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated")
    for name, tokenizer in (("swells", swelling), ("panics", panicking)):
        graphs._write(data_dir, name, _length(), [_text()], [graphs._output("length")], {"text": "b"})
        tokenizer.save(str(data_dir / "models" / "tester" / name / "1" / "tokenizer.json"))
    return data_dir


def _tokenizer() -> Tokenizer:
    return Tokenizer(models.WordLevel({"[UNK]": 0, "b": 1}, unk_token="[UNK]"))


def _text() -> dict[str, Any]:
    return {"kind": "text", "input": "input_ids", "field": "text", "max_tokens": 16}


def _length() -> bytes:
    """The sum of the token ids."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["input_ids", "axes"], ["length"], keepdims=0)
    ends = [graphs._value("input_ids", TensorProto.INT64, "N", "T")], [graphs._value("length", TensorProto.INT64, "N")]
    return graphs._model([node], *ends, [axes])

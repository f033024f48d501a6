"""Pictures: each is decoded once. Of more than 8 bits the upper 8 count, where Pillow would make all above 255 white."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from engine.tasks.scoring.model import LoadedModel
from engine.tasks.scoring.pictures import of_8_bits
from engine.tasks.scoring.score import score


def test_grey_pictures_of_16_bits_keep_their_shades() -> None:
    shades = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    picture = of_8_bits(Image.fromarray(shades))
    assert np.asarray(picture).tolist() == [[0, 0, 1], [128, 255, 255]]


def test_pictures_of_8_bits_stay_as_they_are() -> None:
    picture = Image.new("RGB", (2, 2), (1, 2, 3))
    assert of_8_bits(picture) is picture


def test_a_picture_of_floats_is_refused() -> None:
    with pytest.raises(ValueError, match="range"):
        of_8_bits(Image.new("F", (2, 2)))


@pytest.mark.parametrize("broken", ["no base64!", base64.b64encode(b"no picture").decode(), None])
def test_beside_a_broken_picture_each_one_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", 2, 2, 3]) for name in ("p", "q")]
    graph = helper.make_graph([helper.make_node("Identity", ["p"], ["q"])], "graph", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx")
    entry = {"kind": "tensor", "input": "p", "field": "photo", "decode": "image", "size": None}
    config = {"name": "photos", "max_batch_size": 64, "inputs": [entry], "outputs": [{"output": "q", "as": "q"}]}
    model = LoadedModel("admin/photos@1", tmp_path, config)
    photos = [_file(shade) for shade in range(8)]
    photos[3:3] = [] if broken is None else [broken]
    opened: list[int] = []
    load = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda image, *more: opened.append(image.getpixel((0, 0))[0]) or load(image, *more))
    payload = "".join(json.dumps({"photo": photo}) + "\n" for photo in photos).encode()
    header = {"bulk_id": "0" * 32, "num_lines": len(photos), "line": 1}
    reply, lines = score(model, header, memoryview(payload))
    assert (reply["results"], reply["errors"]) == (8, len(photos) - 8)
    assert opened == list(range(8))
    results: list[Any] = [json.loads(line) for line in b"".join(map(bytes, lines)).splitlines()]
    assert [line["result"]["q"][0][0][0] for line in results if "result" in line] == opened
    assert [line["code"] for line in results if "code" in line] == ["wrong_type"] * (len(photos) - 8)


def _file(shade: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (2, 2), (shade, 0, 0)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()

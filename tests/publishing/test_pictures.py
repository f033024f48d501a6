"""Pictures: a file in base64 becomes the tensor that Pillow and numpy make of it, at the size and scale of the model."""

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from PIL import Image, ImageOps

from tests.clients import bulk, ndjson
from tests.publishing.asking import predict, put, refused
from tests.publishing.uploads import FLOAT, identities
from tests.serving import Server
from tests.tensors.asking import infer, outputs
from tests.tensors.asking import tensor as v2_tensor

UINT8 = TensorProto.UINT8
NOISE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
ENTRY = {"input": "p", "field": "photo", "decode": "image"}


def file(pixels: np.ndarray = NOISE, form: str = "PNG", **options: Any) -> str:
    """A picture file in base64."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return base64.b64encode(out.getvalue()).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def published(server: Server, name: str, shape: tuple[Any, ...], kind: int = FLOAT, **entry: Any) -> None:
    """A graph that gives its picture back as it was fed."""
    answer = put(server, f"admin/{name}", identities(("p", kind, shape)), config={"inputs": [ENTRY | entry]})
    assert answer.status_code == 201, answer.text


def tensor(server: Server, name: str, photo: str) -> np.ndarray:
    answer = predict(server, f"admin/{name}", photo=photo)
    assert "result" in answer, answer
    return np.array(answer["result"]["p_out"])


def test_a_picture_is_resized_and_normalised_as_the_config_says(house: Server) -> None:
    """As torchvision does it: bilinear, to 0..1, then the mean and deviation of each channel."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    published(house, "photos", ("N", 3, 16, 24), mean=mean, std=std)
    expected = np.asarray(opened(file()).resize((24, 16), Image.Resampling.BILINEAR), np.float32) / 255
    expected = ((expected - mean) / std).transpose(2, 0, 1)
    assert tensor(house, "photos", file()) == pytest.approx(expected, abs=1e-5)
    pictures = [file(NOISE + i) for i in range(20)]
    lines = bulk(house, "admin/photos", ndjson({"photo": text} for text in pictures), "&ordered=true").lines
    assert [line["result"] for line in lines] == [predict(house, "admin/photos", photo=text)["result"] for text in pictures]


@pytest.mark.parametrize("field", ["photo", "p"])
def test_a_request_with_tensors_has_files_or_what_the_graph_takes(house: Server, field: str) -> None:
    published(house, f"tensors-{field}", ("N", 3, 4, 6), field=field)
    whole = predict(house, f"admin/tensors-{field}", **{field: file()})["result"]["p_out"]
    flat = np.ravel(whole).tolist()
    of_files = infer(house, f"admin/tensors-{field}", v2_tensor(field, "BYTES", [2], [file(), file()]))
    assert outputs(of_files) == {"p_out": flat + flat}
    assert outputs(infer(house, f"admin/tensors-{field}", v2_tensor("p", "FP32", [1, 3, 4, 6], whole))) == {"p_out": flat}


@pytest.mark.parametrize(
    ("resize", "how"),
    [
        ("stretch", lambda image, size: image.resize(size, Image.Resampling.BICUBIC)),
        ("crop", lambda image, size: ImageOps.fit(image, size, Image.Resampling.BICUBIC)),
        ("pad", lambda image, size: ImageOps.pad(image, size, Image.Resampling.BICUBIC)),
    ],
)
def test_a_picture_of_another_shape_is_stretched_cropped_or_padded(house: Server, resize: str, how: Any) -> None:
    published(house, "bytes", ("N", 10, 20, 3), UINT8, resize=resize, filter="bicubic")
    assert tensor(house, "bytes", file()).tolist() == np.asarray(how(opened(file()), (20, 10))).tolist()


@pytest.mark.parametrize(
    ("shape", "entry", "expected"),
    [
        (("N", 30, 40, 3), {}, NOISE),
        (("N", 3, 30, 40), {}, NOISE.transpose(2, 0, 1)),
        (("N", 30, 40, 3), {"channels": "bgr"}, NOISE[..., ::-1]),
        (("N", "H", "W", 3), {"size": [30, 40]}, NOISE),
        (("N", "C", "H", "W"), {"size": [30, 40], "layout": "NCHW"}, NOISE.transpose(2, 0, 1)),
        (("N", 30, 40), {}, np.asarray(Image.fromarray(NOISE).convert("L"))),
        (("N", 1, 30, 40), {}, np.asarray(Image.fromarray(NOISE).convert("L"))[None]),
        (("N", 30, 40, 4), {}, np.asarray(Image.fromarray(NOISE).convert("RGBA"))),
    ],
)
def test_the_axes_and_colours_are_those_of_the_graph(house: Server, shape: Any, entry: Any, expected: np.ndarray) -> None:
    published(house, "axes", shape, UINT8, **entry)
    assert tensor(house, "axes", file()).tolist() == expected.tolist()


def test_a_model_that_scales_by_itself_gets_pixels(house: Server) -> None:
    published(house, "scaled", ("N", 30, 40, 3), scale=1)
    assert tensor(house, "scaled", file()).tolist() == NOISE.tolist()


def test_files_of_every_kind_are_read_upright_and_with_a_data_url(house: Server) -> None:
    published(house, "kinds", ("N", 30, 40, 3), UINT8)
    for form, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        assert tensor(house, "kinds", file(NOISE, form, **options)).tolist() == NOISE.tolist(), form
    assert tensor(house, "kinds", "data:image/png;base64," + file()).tolist() == NOISE.tolist()
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera lay on its side
    lying = file(np.ascontiguousarray(np.rot90(NOISE)), "PNG", exif=turned)
    assert tensor(house, "kinds", lying).tolist() == NOISE.tolist()


def bomb() -> str:
    """A PNG of 30,000 by 30,000 pixels in a few bytes: its header alone may be read."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return base64.b64encode(body).decode()


BAD = {
    "null": (None, "missing_field", "field 'photo' is null, and the model needs a picture in base64"),
    "numbers": ([[1, 2]], "wrong_type", "field 'photo' must be a picture in base64, not an array"),
    "no base64": ("not base64!", "wrong_type", "field 'photo' must be a picture in base64, and is not base64"),
    "no picture": ("aGVsbG8=", "wrong_type", "field 'photo' holds no picture that can be read (JPEG, PNG, WEBP, GIF, BMP, TIFF)"),
    "cut short": (file()[:400], "wrong_type", "field 'photo' holds no picture that can be read"),
    "a bomb": (bomb(), "out_of_range", "field 'photo' has a picture of more than 24,000,000 pixels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_picture_costs_its_own_record_only(house: Server, kind: str) -> None:
    photo, code, reason = BAD[kind]
    put(house, "admin/kept", identities(("p", UINT8, ("N", 30, 40, 3))), config={"inputs": [ENTRY]})
    lines = bulk(house, "admin/kept", ndjson({"photo": text} for text in (file(), photo, file())), "&ordered=true").lines
    assert (lines[1]["code"], lines[1]["error"][: len(reason)]) == (code, reason)
    assert [np.array(line["result"]["p_out"]).tolist() for line in (lines[0], lines[2])] == [NOISE.tolist()] * 2


@pytest.mark.parametrize(
    ("shape", "kind", "entry", "reason"),
    [
        (("N", 5, 30, 40), FLOAT, {"layout": "NCHW"}, "it has 5 channels; a picture has 1, 3 or 4"),
        (("N", "C", "H", "W"), FLOAT, {"size": [8, 8]}, "its shape does not tell which axis has the channels"),
        (("N", 3, "H", "W"), FLOAT, {}, "it leaves the size of pictures open: give the entry a 'size'"),
        (("N", 3, 8, 8), FLOAT, {"size": [9, 8]}, "its pictures have a side of 8, and 'size' says 9"),
        (("N", 3, 8, 8), FLOAT, {"mean": [1.0, 2.0]}, "'mean' has 2 numbers, and it has 3 channels"),
        (("N", 3, 8, 8), UINT8, {"std": [1.0]}, "'std' is for floats, and it takes uint8"),
        (("N", 3, 8, 8), TensorProto.STRING, {}, "a picture becomes numbers, which it does not take"),
        (("N", 3), FLOAT, {}, "it has 2 axes; pictures have [N,C,H,W], [N,H,W,C] or [N,H,W]"),
        (("N", 3, 10_000, 10_000), FLOAT, {}, "pictures may have 24,000,000 pixels, and it has 100,000,000"),
    ],
)
def test_an_entry_that_does_not_fit_the_graph_is_refused(house: Server, shape: Any, kind: int, entry: Any, reason: str) -> None:
    answer = put(house, "admin/unfit", identities(("p", kind, shape)), config={"inputs": [ENTRY | entry]})
    assert refused(answer, 422).startswith(f"input 'p': {reason}")

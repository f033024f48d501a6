"""Pictures to tensors: a file in base64 is decoded, brought to the model's size, scaled and normalised.

Only a model whose config says `decode: image` loads this file: Pillow takes 30 ms and 2 MiB of a replica.
"""

import base64
import binascii
import io
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from engine.tasks.codec import Record
from engine.tasks.pixels import FORMATS, MAX_PIXELS, webp_pixels
from engine.tasks.scoring.inputs import Irregular, Refused, absent, json_type
from engine.tasks.scoring.tensors import open_dims

# Channels of the tensor -> the mode in which Pillow has as many.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST}
# The largest value of a pixel.
WHITE = 255
# The channels that bgr puts into another order; a fourth one stays where it is.
NUM_COLOURS = 3


class Plan(NamedTuple):
    """What a picture becomes: its size and channels, and whether the channels come before or after its rows, or have no axis."""

    height: int
    width: int
    channels: int
    layout: str


class Picture:
    """One field with a picture -> [N,C,H,W], [N,H,W,C] or [N,H,W].

    dtype   of the tensor; only floats are scaled and normalised
    raises  ValueError if the entry of config.json and the shape of the graph's input do not fit
    """

    def __init__(self, entry: dict[str, Any], dtype: Any, shape: Sequence[Any]) -> None:
        self.name: str = entry["input"]
        self._field: str = entry["field"]
        self._dtype = np.dtype(dtype)
        self._plan = plan(entry, shape)
        self._resize: str = entry.get("resize", "stretch")
        self._filter = FILTERS[entry.get("filter", "bilinear")]
        self._is_reversed = entry.get("channels", "rgb") == "bgr"
        self._factor, self._offset = self._normalisation(entry)

    def _normalisation(self, entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset of each channel, float32: (pixel * scale - mean) / std is pixel * factor + offset."""
        given = [key for key in ("scale", "mean", "std") if entry.get(key) is not None]
        if self._dtype.kind not in "fiu":
            raise ValueError("a picture becomes numbers, which it does not take")
        if self._dtype.kind != "f" and given:
            raise ValueError(f"'{given[0]}' is for floats, and it takes {self._dtype.name}")
        scale = entry.get("scale") or (1 / WHITE if self._dtype.kind == "f" else 1.0)
        mean, std = (self._per_channel(entry.get(key), key, default) for key, default in (("mean", 0.0), ("std", 1.0)))
        return (scale / std).astype(np.float32), (-mean / std).astype(np.float32)

    def _per_channel(self, values: list[float] | None, key: str, default: float) -> np.ndarray:
        count = self._plan.channels
        if values is not None and len(values) not in (1, count):
            raise ValueError(f"'{key}' has {len(values)} numbers, and it has {count} channels")
        return np.broadcast_to(np.array(values or [default]), (count,))

    def bulk(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        """Always Irregular: the careful way decodes each picture once, also beside a broken one."""
        raise Irregular

    def check(self, record: Record) -> np.ndarray:
        """The picture of one record, uint8 [H,W,C]. Refused."""
        if record.get(self._field) is None:
            raise absent(record, self._field, "a picture in base64")
        return self._decoded(record[self._field])

    def stack(self, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
        batch = np.stack(pictures)
        if self._is_reversed and self._plan.channels >= NUM_COLOURS:
            batch = batch[..., [2, 1, 0, *range(NUM_COLOURS, self._plan.channels)]]
        if self._dtype.kind == "f":
            batch = (batch * self._factor + self._offset).astype(self._dtype)
        if self._plan.layout == "NCHW":
            batch = batch.transpose(0, 3, 1, 2)
        elif self._plan.layout == "NHW":
            batch = batch[..., 0]
        return {self.name: np.ascontiguousarray(batch, dtype=self._dtype)}

    def _decoded(self, text: Any) -> np.ndarray:
        if type(text) is not str:
            raise Refused("wrong_type", f"field '{self._field}' must be a picture in base64, not {json_type(text)}")
        try:
            data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            raise Refused("wrong_type", f"field '{self._field}' must be a picture in base64, and is not base64") from None
        return self._opened(data)

    def _opened(self, data: bytes) -> np.ndarray:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if webp_pixels(data) > MAX_PIXELS:
                    raise TooManyPixels
                with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                    if image.width * image.height > MAX_PIXELS:
                        raise TooManyPixels
                    return self._fitted(image)
        except (TooManyPixels, Image.DecompressionBombError):
            reason = f"field '{self._field}' has a picture of more than {MAX_PIXELS:,} pixels"
            raise Refused("out_of_range", reason) from None
        except MemoryError:
            raise
        except Exception:  # broken pictures make the decoders raise nearly anything
            known = ", ".join(FORMATS)
            raise Refused("wrong_type", f"field '{self._field}' holds no picture that can be read ({known})") from None

    def _fitted(self, image: Image.Image) -> np.ndarray:
        """The picture upright, in the model's colours and size: uint8 [H,W,C]."""
        upright = of_8_bits(ImageOps.exif_transpose(image)).convert(MODES[self._plan.channels])
        size = (self._plan.width, self._plan.height)
        if self._resize == "crop":
            fitted = ImageOps.fit(upright, size, self._filter)
        elif self._resize == "pad":
            fitted = ImageOps.pad(upright, size, self._filter)
        else:
            fitted = upright if upright.size == size else upright.resize(size, self._filter)
        return np.asarray(fitted, np.uint8).reshape(self._plan.height, self._plan.width, self._plan.channels)


def of_8_bits(image: Image.Image) -> Image.Image:
    """A grey picture of 16 bits with the upper 8 of them, where Pillow would make all above 255 white. ValueError for floats."""
    if image.mode == "F":
        raise ValueError("a picture of floats has no known range")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


class TooManyPixels(Exception):
    """A picture would take too much memory."""


def plan(entry: dict[str, Any], shape: Sequence[Any]) -> Plan:
    """What pictures become for an input of this shape. ValueError if the entry in config.json does not fit or says too little."""
    dims = open_dims(shape[1:])
    if len(dims) not in (2, 3):
        raise ValueError(f"it has {len(shape)} axes; pictures have [N,C,H,W], [N,H,W,C] or [N,H,W]")
    layout = _layout(entry.get("layout"), dims)
    axis = {"NCHW": 0, "NHWC": 2}.get(layout)
    channels = 1 if axis is None else 3 if dims[axis] is None else dims[axis]
    if channels not in MODES:
        raise ValueError(f"it has {channels} channels; a picture has 1, 3 or 4")
    sides = [dim for i, dim in enumerate(dims) if i != axis]
    height, width = (_side(dim, side) for dim, side in zip(sides, entry.get("size") or (None, None), strict=True))
    if height * width > MAX_PIXELS:
        raise ValueError(f"pictures may have {MAX_PIXELS:,} pixels, and it has {height * width:,}")
    return Plan(height, width, channels, layout)


def _layout(given: str | None, dims: list[int | None]) -> str:
    """NCHW or NHWC, as the config says, or as the axis that can only be the channels tells; NHW without such an axis."""
    if len(dims) == len(("H", "W")):
        return "NHW"
    if given is not None:
        return given
    could_be = [layout for layout, dim in (("NCHW", dims[0]), ("NHWC", dims[2])) if dim in MODES]
    if len(could_be) != 1:
        raise ValueError("its shape does not tell which axis has the channels: give the entry a 'layout', NCHW or NHWC")
    return could_be[0]


def _side(dim: int | None, given: int | None) -> int:
    if dim is None and given is None:
        raise ValueError("it leaves the size of pictures open: give the entry a 'size', [height, width]")
    if dim is not None and given is not None and dim != given:
        raise ValueError(f"its pictures have a side of {dim}, and 'size' says {given}")
    side = given if dim is None else dim
    if not side:
        raise ValueError("its pictures have a side of 0")
    return side

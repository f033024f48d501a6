"""Pictures, decoded and written anew: no byte of a file that somebody sent reaches a browser. Knows no datasets."""

import io
import warnings
from typing import Any, NamedTuple

from PIL import Image, ImageOps

from engine.tasks.pixels import FORMATS, MAX_PIXELS, webp_pixels

# A JPEG can be decoded at an eighth of its width and height.
DRAFTS = (1, 2, 4, 8)
JPEG_QUALITY = 85
Image.MAX_IMAGE_PIXELS = MAX_PIXELS * DRAFTS[-1] ** 2
# Modes with more than JPEG holds, and what they are written as.
_PNG_MODES = {"RGBA": "RGBA", "LA": "LA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA", "I;16": "I;16", "I;16B": "I;16", "I": "I"}


class Picture(NamedTuple):
    """A picture as it is sent. suffix: `jpg` or `png`."""

    data: bytes
    suffix: str
    width: int
    height: int


def written_anew(data: bytes) -> Picture | None:
    """The picture of a file; None if it cannot be read, or has too many pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if webp_pixels(data) > MAX_PIXELS:
                return None
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _written(image)
    # Broken pictures make the decoders raise nearly anything, also MemoryError. One picture is lost, and the rows are there.
    except Exception:
        return None


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header, without decoding; None if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                return int(width), int(height)
    except Exception:  # as above
        return None


def _written(image: Image.Image) -> Picture | None:
    if image.format in ("JPEG", "MPO"):
        width, height = image.size
        factor = next((one for one in DRAFTS if width * height <= MAX_PIXELS * one * one), 1)
        if factor > 1:
            image.draft(None, (-(-width // factor), -(-height // factor)))
    if image.width * image.height > MAX_PIXELS:
        return None
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P":
        upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
    elif "transparency" in upright.info and upright.mode in ("RGB", "L"):
        upright = upright.convert("RGBA")
    mode = _PNG_MODES.get(upright.mode) or (
        upright.mode if upright.mode in ("L", "RGB") else "L" if upright.mode in "1F" else "RGB"
    )
    made = upright if upright.mode == mode else upright.convert(mode)
    # Profiles, comments and EXIF of the file are in here.
    made.info = {}
    is_png = mode in _PNG_MODES.values()
    out = io.BytesIO()
    if is_png:
        made.save(out, "PNG")
    else:
        made.save(out, "JPEG", quality=JPEG_QUALITY)
    return Picture(out.getvalue(), "png" if is_png else "jpg", made.width, made.height)


def of_matrix(value: Any) -> bytes | None:
    """A PNG of lists of integers from 0 to 255: [rows, columns], or [rows, columns, 1, 3 or 4]. None for other shapes."""
    try:
        height, width = len(value), len(value[0])
        if not isinstance(value[0][0], list):
            mode, flat = "L", [one for row in value for one in row]
        else:
            mode = {1: "L", 3: "RGB", 4: "RGBA"}[len(value[0][0])]
            flat = [one for row in value for cell in row for one in cell]
        if width * height > MAX_PIXELS:
            return None
        out = io.BytesIO()
        Image.frombytes(mode, (width, height), bytes(flat)).save(out, "PNG")
        return out.getvalue()
    except (ValueError, TypeError, LookupError):
        return None

"""Pictures of more than 8 bits: where Pillow would make all above 255 white, the upper 8 bits count."""

import numpy as np
import pytest
from PIL import Image

from engine.tasks.scoring.pictures import of_8_bits


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

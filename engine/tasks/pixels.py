"""How large a picture may be, and how large it is by its header. Knows no decoder."""

import struct

# Pictures in other formats are not opened: each decoder is a way in for a hostile file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 24_000_000


def webp_pixels(data: bytes) -> int:
    """Pixels of a WebP picture by its header, 0 for any other: its decoder takes memory for all of them when it opens the file.

    raises  struct.error for a header that is cut short
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return 0
    kind = data[12:16]
    if kind == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (1 + (bits & 0x3FFF)) * (1 + (bits >> 14 & 0x3FFF))
    width, height = struct.unpack("<HH", data[26:30])
    return int((width & 0x3FFF) * (height & 0x3FFF))

"""Signatures: what a file of a picture or a sound is, by its first bytes. Names are only believed where nothing is opened."""

from engine.tasks.preview.formats import AUDIO_SUFFIXES

MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg"}


def image_suffix(data: bytes) -> str | None:
    """Of the formats that are decoded."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "tiff"
    # Two letters alone would make a picture of many a text: the header's own size is there, too.
    is_bmp = data.startswith(b"BM") and len(data) > 18 and data[14] in (12, 40, 52, 56, 64, 108, 124) and data[15:18] == b"\0\0\0"
    return "bmp" if is_bmp else None


def sound_suffix(data: bytes) -> str | None:
    """Of the formats that are sent; opus comes in ogg."""
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "wav"
    if data.startswith(b"fLaC"):
        return "flac"
    if data.startswith(b"OggS"):
        return "ogg"
    is_mp3 = data.startswith(b"ID3") or (len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 != 0)
    return "mp3" if is_mp3 else None


def is_sound_name(path: str) -> bool:
    return path.lower().rpartition(".")[2] in AUDIO_SUFFIXES

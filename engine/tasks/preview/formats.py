"""Formats of files, by the ends of their names."""

from engine.tasks.preview.unpacking import without_suffix

# In the order in which equal numbers of files decide.
PARQUET, JSONL, JSON, CSV, TSV, TEXT, IMAGE, AUDIO = "parquet", "jsonl", "json", "csv", "tsv", "text", "image", "audio"
ORDER = (PARQUET, JSONL, JSON, CSV, TSV, TEXT, IMAGE, AUDIO)
MEDIA = frozenset({IMAGE, AUDIO})
_PACKABLE = frozenset({JSONL, JSON, CSV, TSV, TEXT})
IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
AUDIO_SUFFIXES = ("wav", "mp3", "flac", "ogg", "opus")
_FORMATS = {
    "parquet": PARQUET,
    "jsonl": JSONL,
    "ndjson": JSONL,
    "json": JSON,
    "csv": CSV,
    "tsv": TSV,
    "txt": TEXT,
    **dict.fromkeys(IMAGE_SUFFIXES, IMAGE),
    **dict.fromkeys(AUDIO_SUFFIXES, AUDIO),
}
# Files that add columns to the pictures or sounds beside them.
METADATA_NAMES = ("metadata.csv", "metadata.jsonl")


def format_of(path: str) -> str | None:
    """The format that the name of a file promises; None for a file that is not data."""
    name = path.rpartition("/")[2]
    plain, packing = without_suffix(name)
    stem, dot, suffix = plain.rpartition(".")
    found = _FORMATS.get(suffix) if dot and stem else None
    return found if not packing or found in _PACKABLE else None


def is_metadata(path: str) -> bool:
    return path.rpartition("/")[2] in METADATA_NAMES

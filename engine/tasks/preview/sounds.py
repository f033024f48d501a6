"""Sounds, sent as they are under the type that their first bytes have; with ffmpeg a wav also becomes mp3. Knows no datasets."""

import functools
import io
import logging
import shutil
import subprocess
import wave
from typing import NamedTuple

from engine.tasks.preview.signatures import MEDIA_TYPES, sound_suffix

FFMPEG_TIMEOUT_S = 20
logger = logging.getLogger(__name__)


class Sound(NamedTuple):
    """A sound as it is sent. suffix: a key of MEDIA_TYPES."""

    data: bytes
    suffix: str

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.suffix]


def forms_of(data: bytes) -> list[Sound]:
    """The files of one sound, the one to play first; empty for bytes that are none."""
    suffix = sound_suffix(data)
    if suffix is None:
        return []
    sounds = [Sound(data, suffix)]
    if suffix == "wav" and (mp3 := _as_mp3(data)):
        sounds.insert(0, Sound(mp3, "mp3"))
    return sounds


@functools.cache
def _ffmpeg() -> str | None:
    found = shutil.which("ffmpeg")
    if found is None:
        logger.info("ffmpeg is not installed: sounds are shown as wav only")
    return found


def _as_mp3(data: bytes) -> bytes | None:
    """None without ffmpeg, and for a sound that it cannot read in time."""
    program = _ffmpeg()
    if program is None:
        return None
    limits = ("-nostdin", "-loglevel", "quiet", "-protocol_whitelist", "pipe", "-threads", "1")
    command = [program, *limits, "-f", "wav", "-i", "pipe:0", "-f", "mp3", "-map_metadata", "-1", "pipe:1"]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=FFMPEG_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and sound_suffix(done.stdout) == "mp3" else None


def seconds_of(data: bytes) -> float | None:
    """The length of a wav or a flac by its header; None for other sounds and for broken ones."""
    suffix = sound_suffix(data)
    if suffix == "flac" and len(data) >= 26:
        bits = int.from_bytes(data[18:26], "big")
        rate = bits >> 44
        return (bits & (1 << 36) - 1) / rate if rate else None
    if suffix == "wav":
        try:
            with wave.open(io.BytesIO(data)) as opened:
                return opened.getnframes() / opened.getframerate()
        except (wave.Error, EOFError, ZeroDivisionError, ValueError):
            return None
    return None

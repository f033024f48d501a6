"""Keys as texts: how they look, their hashes, and the file with the admin's full key."""

import hashlib
import re
import secrets
from pathlib import Path

from engine import files
from engine.errors import INVALID_REQUEST, EngineError

KEY = re.compile(r"[0-9a-f]{32}")


def new_key() -> str:
    return secrets.token_hex(16)


def hash_of(key: str) -> bytes:
    """The hash of any text. Bytes of an HTTP header that are not UTF-8 arrive here as lone surrogates."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def read_key(key_file: Path) -> str | None:
    """The key in the file, or None when there is no file."""
    try:
        key = key_file.read_bytes().strip().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    if not KEY.fullmatch(key):
        reason = f"{key_file.name} does not hold a key of 32 hex digits: remove the file to get a new key"
        raise EngineError(INVALID_REQUEST, reason)
    return key


def write_key(key_file: Path, key: str) -> None:
    """Write the key file. At no moment can any user of the machine read it except the one that runs this process."""
    files.replace_text(key_file, key + "\n", mode=0o600)

"""A package registry in a folder: pip finds wheels there that contain the files a test wants."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from catalogue import Package


def write_wheel(registry: Path, name: str, files: Mapping[str, bytes], *, zip_part: str = "") -> Package:
    """Publish version 1.0 of the package `name` with these files; returns it with its hash."""
    registry.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    path = registry / f"{module}-1.0-py3-none-any.whl"
    about = {
        f"{module}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{module}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{module}-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for member, data in {**files, **about}.items():
            wheel.writestr(member, data)
    return Package(f"{name}==1.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, zip_part)


def damage(registry: Path, package: Package) -> None:
    """Add one byte to the published package, so that its hash no longer matches."""
    name = package.requirement.partition("==")[0].replace("-", "_")
    with zipfile.ZipFile(registry / f"{name}-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr(f"{name}/more", b"!")


def withdraw(registry: Path, package: Package) -> None:
    """Remove the package from the registry."""
    name = package.requirement.partition("==")[0].replace("-", "_")
    (registry / f"{name}-1.0-py3-none-any.whl").unlink()


def files_of(folder: Path, prefix: str) -> dict[str, bytes]:
    """The content of every file under a folder, by the prefix and the path of the file."""
    return {f"{prefix}{path.relative_to(folder)}": path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

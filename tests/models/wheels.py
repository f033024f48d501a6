"""A package registry in a folder: wheels that pip finds there, with files of our choosing, and what pins them."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from catalogue import Package


def write_wheel(registry: Path, name: str, files: Mapping[str, bytes], *, zip_part: str = "") -> Package:
    """Publish `name` 1.0 with these files; its pin."""
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
    """Publish the package with one byte more; its pin no longer fits."""
    name = package.requirement.partition("==")[0].replace("-", "_")
    with zipfile.ZipFile(registry / f"{name}-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr(f"{name}/more", b"!")


def withdraw(registry: Path, package: Package) -> None:
    name = package.requirement.partition("==")[0].replace("-", "_")
    (registry / f"{name}-1.0-py3-none-any.whl").unlink()


def files_of(folder: Path, prefix: str) -> dict[str, bytes]:
    """Every file under a folder, by its path behind the prefix."""
    return {f"{prefix}{path.relative_to(folder)}": path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

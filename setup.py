"""What setup.cfg cannot say of the package.

The native kernel is compiled where there is a compiler, and left out where there is none. A wheel holds the example models, where
server/config.py looks for them.
"""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

MODELS = Path(__file__).parent / "models"
# Those that are in the repository. What else lies in models/ was fetched or built on this machine.
EXAMPLES = ("brandon/HelloWorld", "sluice/diabetes", "sluice/iris", "sluice/language", "sluice/penguins", "sluice/wine")
# It tells where the models come from, and their licences.
ABOUT = "README.md"

KERNEL = Extension(
    "engine.tasks.scoring._kernel",
    ["engine/tasks/scoring/kernel.cpp"],
    language="c++",
    extra_compile_args=["-std=c++17", "-O3"],
    optional=True,
)


class BuildWithModels(build_py):
    """Copies the example models beside the package `server`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # then the server runs from the checkout, which has them
            return
        for path in [MODELS / ABOUT, *(file for name in EXAMPLES for file in sorted((MODELS / name).rglob("*")) if file.is_file())]:
            target = Path(self.build_lib, "server", "models", path.relative_to(MODELS))
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(ext_modules=[KERNEL], cmdclass={"build_py": BuildWithModels})

"""What setup.cfg cannot say: the native kernel is compiled where there is a compiler, and left out where there is none."""

from setuptools import Extension, setup

KERNEL = Extension(
    "engine.tasks.scoring._kernel",
    ["engine/tasks/scoring/kernel.cpp"],
    language="c++",
    extra_compile_args=["-std=c++17", "-O3"],
    optional=True,
)

setup(ext_modules=[KERNEL])

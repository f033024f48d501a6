"""DECISIONS.md names only what exists: its paths, and the constants, classes and functions of the source."""

import re

import pytest

from tests.serving import ROOT

TEXT = (ROOT / "DECISIONS.md").read_text(encoding="utf-8")
QUOTES = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
# Of `one/file.py` and `one/folder/`, but not of a route such as `/docs`.
PATHS = [quote for quote in QUOTES if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", quote)]
# A name of code has an underscore, a capital or a dot; a plain word such as `score` is not looked up.
NAMES = [quote for quote in QUOTES if re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", quote) and re.search(r"[A-Z_.]", quote)]
# "`ONE`, `TWO` and `three` in `one/file.py`"
PLACED = re.compile(r"((?:`[\w.()]+`(?:, | and )?)+) in `([\w./-]+)`")
SOURCES = [path for folder in ("engine", "handlers", "server", "models") for path in sorted((ROOT / folder).rglob("*.py"))]
WORDS = {str(path.relative_to(ROOT)): set(re.findall(r"\w+", path.read_text(encoding="utf-8"))) for path in SOURCES}
ENTRIES = [entry.split("\n") for entry in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]]


def parts(name: str) -> set[str]:
    """The words of `Class.method` or `module.function()`, all of which one file must have."""
    return set(name.removesuffix("()").split("."))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_named_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_named_is_in_the_source(name: str) -> None:
    assert any(parts(name) <= words for words in WORDS.values())


@pytest.mark.parametrize(("names", "path"), [(found[1], found[2]) for found in PLACED.finditer(TEXT)])
def test_names_are_in_the_file_that_is_named_with_them(names: str, path: str) -> None:
    assert [name for name in re.findall(r"`([^`]+)`", names) if not parts(name) <= WORDS.get(path, set())] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[0])
def test_an_entry_is_a_choice_a_figure_and_what_would_change_it(entry: list[str]) -> None:
    lines = [line for line in entry[1:] if line and not line.startswith("## ")]
    assert [line.partition(": ")[0] for line in lines] == ["Choice", "Figure", "Would change it"]


def test_the_list_of_parts_is_that_of_the_headings() -> None:
    assert re.findall(r"^- \[(.+)\]\(#", TEXT, re.MULTILINE) == re.findall(r"^## (.+)", TEXT, re.MULTILINE)

"""The page for contributors: its picture is the import contract, its names are in the code."""

import importlib
import re
import runpy
from collections import Counter

import pytest
from folders import PACKAGE
from places import DOCS, ROOT

PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
WORDS = PAGE[PAGE.index("## Words") :]


def test_the_picture_is_drawn_from_the_contract():
    """If it is not: python docs/images/draw_rooms.py."""
    drawing = runpy.run_path(str(DOCS / "images" / "draw_rooms.py"))
    assert drawing["drawn"]() == (DOCS / "images" / "rooms.svg").read_text(encoding="utf-8")
    assert all(drawing["sentence"](room) for row in drawing["layers"]() for room in row)


@pytest.mark.parametrize("part", ["way", "words"])
def test_what_the_page_names_is_in_the_code(part):
    text = WORDS if part == "words" else PAGE.removesuffix(WORDS)
    names = re.findall(r"`([a-z_]+(?:\.\w+)+)`", text)
    names = [name for name in names if not re.search(r"\.(py|toml|fit)$", name)]
    assert len(names) > 15
    for name in names:
        assert _found(f"keras_lrp_prune.{name}"), name


def _found(path):
    """What a dotted path leads to: modules as far as there are any, then attributes."""
    module, _, rest = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(_found(module), rest, None)


def test_the_workflow_and_the_hooks_call_what_exists():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run" in workflow and (ROOT / ".ci" / "run").stat().st_mode & 0o100


@pytest.mark.parametrize("page", sorted(PACKAGE.glob("*/README.md")), ids=lambda it: it.parent.name)
def test_a_room_lists_its_files(page):
    room = page.parent
    items = re.findall(r"^1\. ((?:`[\w/.]+`,?\s)*`[\w/.]+`): ", page.read_text("utf-8"), re.M)
    listed = [name for item in items for name in re.findall(r"`([\w/.]+)`", item)]
    files = [path.name for path in room.glob("*.py") if path.name != "__init__.py"]
    folders = [f"{path.parent.name}/" for path in room.glob("*/__init__.py")]
    assert sorted(listed) == sorted(files + folders)


def test_the_larger_rooms_have_a_page():
    def files(room):
        return [path for path in room.rglob("*.py") if path.name != "__init__.py"]

    larger = {"graph", "relevance", "criteria", "prunables", "selection", "control"}
    larger |= {"examination", "surgery", "callbacks"}
    assert larger == {page.parent.name for page in PACKAGE.glob("*/README.md")}
    assert all(len(files(PACKAGE / room)) >= 5 for room in larger)


def test_the_name_of_a_module_says_which_one():
    modules = [path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
    assert not [path for path in modules if path.stem == path.parent.name]
    stems = Counter(path.stem for path in modules)
    # LRP rules; and another name that channel rules can be imported by.
    assert [stem for stem, count in stems.items() if count > 1] == ["rules"]

"""The page for contributors: its picture is the import contract, its names are in the code."""

import importlib
import re
import runpy

import pytest
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

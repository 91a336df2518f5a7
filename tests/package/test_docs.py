"""The code in the documentation runs as it stands there, page by page."""

import re
from functools import partial

import pytest
from places import DOCS
from trained import trained

PAGES = (
    *("how-it-works", "supported-models", "explain", "comparison", "fit", "profile"),
    *("deploy", "finetuning", "criteria", "keras-guide", "sensitivity"),
    *("how-to-schedule", "how-to-channel-rule", "how-to-lrp-rule"),
)


@pytest.fixture
def demo_trained_once(monkeypatch):
    """Most pages train the same model."""
    from keras_lrp_prune import demo

    monkeypatch.setattr(demo, "train_classifier", partial(trained, demo.train_classifier))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.usefixtures("demo_trained_once", "nothing_registered")
def test_code_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    assert capsys.readouterr().out


def test_what_the_api_lists_is_reached_from_the_package():
    """But the formula of the energy estimate, and what rules and records need besides."""
    import inspect
    import pkgutil

    import keras_lrp_prune as klp

    entries = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    listed = [pkgutil.resolve_name(entry) for entry in entries]
    wanted = {
        it.__name__: it
        for it in listed
        if inspect.isfunction(it) or (inspect.isclass(it) and issubclass(it, Exception))
    }
    rooms = (klp, klp.export, klp.criteria)
    found = {name: getattr(room, name) for room in rooms for name in wanted if name in room.__all__}
    assert wanted.keys() - found.keys() == {"energy"}
    assert all(found[name] is wanted[name] for name in found)
    assert klp.ImageFolder in listed


def test_the_example_of_a_channel_rule_prunes_as_it_says(float64, capsys, nothing_registered):
    import keras
    from models import difference, images, make_live, masked_copy, pruned, random_removal

    from keras_lrp_prune.graph.analysis import channel_structure
    from keras_lrp_prune.graph.reader import read_model

    page = (DOCS / "supported-models.md").read_text()
    start, end = page.index("class Gain"), page.index("print(klp.explain(mine))")
    code = re.sub(r"```\n.*?```python\n", "", page[start:end], flags=re.DOTALL)
    namespace = {"keras": keras, "klp": __import__("keras_lrp_prune")}
    exec(code, namespace)
    model = make_live(namespace["mine"])
    structure = channel_structure(read_model(model))
    assert {group.name: group.size for group in structure.groups} == {"conv": 16, "project": 8}
    removed = random_removal(structure, 0.5)
    copy, mask = masked_copy(model)
    x = images(model)
    plain = copy.model(x)
    mask.set(removed)
    masked = copy.model(x)
    assert difference(plain, masked) > 1e-3
    assert difference(pruned(model, removed)(x), masked) <= 1e-9

"""The notebooks in examples/tutorials run from top to bottom, small and without a network."""

import json
import os
import re
import shlex

import pytest
from places import ROOT

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

TUTORIALS = ROOT / "examples" / "tutorials"
# Notebook to the modules beyond the package's own needs, and to the fewest pictures it draws.
NOTEBOOKS = {
    "quickstart": ((), 4),
    "flowers": ((), 4),
    "fit_and_serve": (("ai_edge_litert", "tensorflow_serving"), 3),
}
# Nothing listens there: whatever asks for the network is refused at once.
NOWHERE = "http://127.0.0.1:9"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|Users|content|work|usr|opt|var)/")


def notebook(name):
    found = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    nbformat.validate(found)
    return found


def code_cells(found):
    return [cell for cell in found.cells if cell.cell_type == "code"]


def pictures(cell):
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


@pytest.fixture
def small_and_offline(monkeypatch):
    """What the kernel's process gets."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("no_proxy", "NO_PROXY", "KLP_FLOWERS", "KLP_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KLP_TUTORIAL", "small")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_draws(name, small_and_offline, tmp_path):
    needed, fewest_pictures = NOTEBOOKS[name]
    for module in needed:
        pytest.importorskip(module)
    found = notebook(name)
    for cell in code_cells(found):
        cell.outputs = []
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        found, timeout=400, kernel_name="python3", resources=resources
    ).execute()
    assert all(cell.execution_count for cell in code_cells(found))
    assert not code_cells(found)[0].outputs  # the package is there: nothing is installed
    assert sum(map(len, map(pictures, code_cells(found)))) >= fewest_pictures
    assert list(tmp_path.rglob("*.keras")) or list(tmp_path.rglob("*.tflite"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_cell_installs_as_the_readme_says(name):
    readme = (ROOT / "README.md").read_text()
    colab = re.search(r"On Colab.*?```text\n(.*?)```", readme, re.DOTALL)[1].strip().splitlines()
    assert len(colab) == 3
    install = [line.strip() for line in code_cells(notebook(name))[0].source.splitlines()]
    commands = [line for line in install if line.startswith(("!", "%"))]
    assert commands[:3] == colab
    for command in commands[3:]:
        *start, package = shlex.split(command)
        assert start == ["%pip", "install"]
        extras = re.fullmatch(r"\./keras-lrp-prune\[(.*)\]", package)[1].split(",")
        assert set(extras) <= {"serving", "litert"}
    assert bool(commands[3:]) == bool(NOTEBOOKS[name][0])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_badge_opens_this_notebook(name):
    title = notebook(name).cells[0]
    assert title.cell_type == "markdown"
    assert title.source.startswith("# ")
    assert "https://colab.research.google.com/assets/colab-badge.svg" in title.source
    address = f"https://colab.research.google.com/github/REPOSITORY/blob/main/examples/tutorials/{name}.ipynb"
    assert f"({address})" in title.source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_committed_is_whole_and_names_no_machine(name):
    """Either no outputs, or those of one run from top to bottom that had no error."""
    found = notebook(name)
    cells = code_cells(found)
    counts = [cell.execution_count for cell in cells]
    assert counts in ([None] * len(cells), list(range(1, len(cells) + 1)))
    outputs = [output for cell in cells for output in cell.outputs]
    assert bool(outputs) == bool(counts[0])
    assert not [output for output in outputs if output.output_type == "error"]
    text = [{**output, "data": _without_pictures(output)} for output in outputs]
    assert not MACHINE_PATH.findall(json.dumps([text, *(cell.source for cell in found.cells)]))


def _without_pictures(output):
    data = output.get("data", {})
    return {kind: value for kind, value in data.items() if not kind.startswith("image/")}


def test_every_notebook_is_tested():
    assert {path.stem for path in TUTORIALS.glob("*.ipynb")} == set(NOTEBOOKS)

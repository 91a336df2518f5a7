"""Nobody but the files room writes files."""

import ast

import pytest
from folders import PACKAGE

# Calls that write, by the end of what is called, and where alone they may be: in the files room,
# and what fills an open file, a folder that the room gave, or a scratch folder.
METHODS = {
    "write_bytes": (),
    "write_text": (),
    "touch": (),
    "mkdir": ("files/", "export/warmup.py"),
    "makedirs": (),
    "symlink_to": (),
    "hardlink_to": (),
    "savefig": ("report/figures.py", "report/html.py"),  # html: to memory
    "imsave": (),
    "save_weights": (),
    "to_csv": (),
    "tofile": (),
    "unlink": ("files/", "callbacks/states.py"),
    "TFRecordWriter": ("export/warmup.py",),
}
FUNCTIONS = {
    "os.open": ("files/", "cli/streams.py"),  # streams: os.devnull
    "os.replace": ("files/",),
    "os.rename": ("files/",),
    "os.truncate": ("files/",),
    "os.remove": (),
    "shutil.rmtree": ("files/", "finetuning/cycle_store.py", "demo.py"),
    "shutil.move": (),
    "shutil.copy": (),
    "shutil.copytree": (),
    "json.dump": (),
    "pickle.dump": (),
    "np.save": ("demo.py",),
    "np.savez": ("control/checkpoint.py", "examination/refit.py"),  # refit: to memory
    "np.savez_compressed": (),
    "model.save": ("graph/model_files.py", "cost/measurements.py"),
    "model.export": ("demo.py",),
    "saved_model.save": ("graph/inference.py",),
    "tempfile.mkdtemp": (),
    "tempfile.mkstemp": (),
    "tempfile.NamedTemporaryFile": (),
}
SCRATCH = ("tempfile.TemporaryDirectory", "tempfile.TemporaryFile")


def writing(mode):
    letters = set(str(mode.value)) if isinstance(mode, ast.Constant) else set()
    return letters <= set("rwaxbt+") and bool(letters & set("wax+"))


def writers(tree):
    """Calls in a module that write, as in the tables, with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        *_, owner, method = ["", *ast.unparse(node.func).split(".")]
        name = f"{owner}.{method}"
        # Of the function the second argument, of a path's method the first.
        modes = node.args[bool(not owner or owner in ("os", "io")) :][:1]
        modes += [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
        if method in METHODS or name in FUNCTIONS:
            yield node.lineno, method if method in METHODS else name
        elif method in ("open", "fdopen") and any(map(writing, modes)):
            yield node.lineno, "open"
        elif name in SCRATCH and (node.args or node.keywords):
            yield node.lineno, f"{name} in a folder"


ALLOWED = {
    **METHODS,
    **FUNCTIONS,
    "open": ("files/", "relevance/innvestigate_worker.py", "cli/streams.py"),
}


def test_nobody_else_writes():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        for line, call in writers(ast.parse(path.read_text())):
            if not where.startswith(ALLOWED.get(call, ()) or ("nowhere",)):
                found[f"{where}:{line}"] = call
    assert not found, "use keras_lrp_prune.files"


@pytest.mark.parametrize(
    "source",
    [
        *("open('x', 'w')", "path.open('wb')", "open('x', mode='a')", "np.save('x.npy', x)"),
        *("Path('x').write_text('')", "os.replace(a, b)", "self.model.save(path)", "p.mkdir()"),
        *("tempfile.mkdtemp()", "tempfile.TemporaryDirectory(dir=folder)", "json.dump({}, file)"),
    ],
)
def test_writers_are_found(source):
    assert list(writers(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["open('x')", "text.replace(a, b)", "checkpoint.save(state)", "path.open('rb')"]
)
def test_readers_are_not_taken_for_writers(source):
    assert not list(writers(ast.parse(source)))

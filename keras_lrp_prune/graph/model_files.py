"""`.keras` files: written with errors that name them, and loaded without running what they hold.

Keras' own safe mode refuses pickled lambdas, where it holds: not in HDF5 files of older versions,
nor in legacy Keras, which imports any module that a file names. So the file is read first: what it
asks for must be a layer, or another part of a model, of Keras itself, or be registered.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.display_names import printable
from keras_lrp_prune.files import parsed_json
from keras_lrp_prune.graph.generations import keras_named

if TYPE_CHECKING:
    import keras

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"

# Of Keras' modules, those that models are made of: not `utils`, `saving` or `config`.
_FUNCTIONS = frozenset(
    ("activations", "constraints", "initializers", "losses", "metrics", "ops", "random")
) | {"regularizers"}
_CLASSES = _FUNCTIONS | {
    *("", "dtype_policies", "engine", "layers", "legacy", "mixed_precision", "models"),
    *("optimizers", "quantizers", "trainers"),
}
# Layers whose configs lead to programs outside the file, or in it.
_FOREIGN = ("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TensorFlowOpLayer")
# Layers of legacy Keras that call a TensorFlow operation, with the config entry that names it. Only
# the operations below are allowed: others can write files, load libraries or call Python.
_OPERATION_LAYERS = {"TFOpLambda": "function", "ClassMethod": "cls_symbol"}
_OPERATION_MODULES = frozenset(("__operators__", "bitwise", "image", "linalg", "math", "nn"))
_NAMES = """
    abs add add_n argmax argmin argsort boolean_mask broadcast_to cast clip_by_norm clip_by_value
    concat cos cumsum divide einsum equal exp expand_dims fill floor gather gather_nd greater
    greater_equal identity less less_equal logical_and logical_not logical_or matmul maximum
    minimum multiply negative norm not_equal one_hot ones ones_like pad pow range rank realdiv
    reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod
    reduce_sum repeat reshape reverse roll round scalar_mul shape sigmoid sign sin size slice
    sort split sqrt square squeeze stack stop_gradient strided_slice subtract tan tanh tensordot
    tile transpose truediv unstack where zeros zeros_like
"""
_OPERATIONS = frozenset(_NAMES.split())


class UnsafeModelError(ValueError):
    """A model file is not what it claims to be, or asks for code that is not Keras' own."""


def save_model(model: keras.Model, path: Path, named: Path | None = None) -> None:
    """Writes a model as a `.keras` file, into a folder that is not seen yet.

    Args:
        model: A Keras 3 or legacy Keras model.
        path: The file.
        named: What errors call it; default: `path`.

    Raises:
        OSError: If it cannot be written.
    """
    shown = str(named or path)
    try:
        model.save(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), shown) from error
    # What h5py makes of a disk that is full when it closes the file.
    except RuntimeError as error:
        if not path.exists() or zipfile.is_zipfile(path):
            raise
        raise OSError(f"Cannot write {shown!r}: {error}") from error


def load_model(
    path: Path, keras_name: str, *, compile: bool = True, custom: Mapping[str, Any] | None = None
) -> keras.Model:
    """Loads a `.keras` file, and nothing but what it says of a model.

    Args:
        path: The file.
        keras_name: `"keras"` or `"tf_keras"`.
        compile: Whether to compile it as it was saved. Its optimizer begins anew if it was saved
            before it had trained, or with other layers frozen.
        custom: Classes and functions that are not Keras' own, by the names in the file; those that
            are registered are known too.

    Raises:
        UnsafeModelError: If it is no `.keras` file, or asks for other code.
        ValueError: If it is damaged.
    """
    module = keras_named(keras_name)
    # An empty scope would hide the user's.
    with module.utils.custom_object_scope(dict(custom)) if custom else nullcontext():
        for problem in _problems(_config(path), module):
            raise UnsafeModelError(f"{str(path)!r} is not loaded: {printable(problem)}.")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
                return module.models.load_model(path, compile=compile, safe_mode=True)
        # What h5py, `zipfile` and Keras raise on damaged files has no common base.
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"{str(path)!r} cannot be loaded: {printable(first)}") from error


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _config(path: Path) -> Any:
    """The description of the model in a `.keras` file."""
    if not path.is_file():
        raise UnsafeModelError(f"{str(path)!r} is no file.")
    with path.open("rb") as file:
        # HDF5 may have an archive at its end, which Python's `zipfile` would find.
        is_archive = file.read(4) == b"PK\x03\x04" and zipfile.is_zipfile(file)
    if path.suffix != ".keras" or not is_archive:
        raise UnsafeModelError(f"{str(path)!r} is no .keras file (a zip archive).")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            config = parsed_json(archive.read(_CONFIG))
    except Exception as error:  # as above
        raise UnsafeModelError(f"{str(path)!r} is damaged: {error}.") from error
    if _WEIGHTS not in names or len(set(names)) != len(names):
        raise UnsafeModelError(f"{str(path)!r} is damaged: it has no weights, or twice.")
    return config


def _problems(config: Any, module: Any) -> Iterator[str]:
    """What in a config is not to be trusted, in words."""
    for entry in _dictionaries(config):
        name, where = entry.get("class_name"), _module_of(entry)
        if not isinstance(name, str | None):
            yield f"it has a class of the name {name!r}"
        elif name == "__lambda__" or any(
            value == "lambda" and str(key).endswith("_type") for key, value in entry.items()
        ):
            yield (
                "it holds a Python lambda, which could run any code; use a registered function, or "
                "a layer of its own, instead"
            )
        elif name in _FOREIGN:
            yield f"its layer {name} runs a program that is not a part of it"
        elif name in _OPERATION_LAYERS and not _is_operation(entry):
            yield f"its layer {name} calls a function of TensorFlow that is no plain operation"
        elif name is not None and where is not None and not _is_known(entry, module):
            yield (
                f"it needs {where}.{name if name != 'function' else entry.get('config')}, which is "
                "no part of Keras; register it (keras.saving.register_keras_serializable) or give "
                "it by keras.saving.custom_object_scope"
            )


def _dictionaries(config: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _module_of(entry: Mapping[str, Any]) -> Any:
    """Where a class or function is; functions without a module are looked for as Python's own."""
    where = entry.get("module")
    return "builtins" if where is None and entry.get("class_name") == "function" else where


def _is_known(entry: Mapping[str, Any], module: Any) -> bool:
    """Whether a class or function is one that models of Keras are made of, or is registered."""
    name, where = entry["class_name"], _module_of(entry)
    is_function = name == "function"
    wanted = entry.get("config") if is_function else entry.get("registered_name") or name
    if not isinstance(name, str) or not isinstance(where, str) or not isinstance(wanted, str):
        return False
    if module.utils.get_registered_object(wanted) is not None:
        return True
    if is_function and where == "builtins":
        # Keras writes its own functions like this. By such an entry legacy Keras would also find
        # Python's own functions, for example `exec`.
        return any(hasattr(getattr(module, part, None), wanted) for part in _FUNCTIONS)
    package, *parts = where.split(".")
    inside = parts[1:] if parts[:1] == ["src"] else parts
    if package not in ("keras", "tf_keras"):
        return False
    if is_function:
        return parts == inside and len(inside) == 1 and inside[0] in _FUNCTIONS
    # By the name of a function, Keras would return the function where a class is meant.
    return name[:1].isupper() and (inside or [""])[0] in _CLASSES


def _is_operation(entry: Mapping[str, Any]) -> bool:
    config, key = entry.get("config"), _OPERATION_LAYERS[entry["class_name"]]
    symbol = config.get(key) if isinstance(config, dict) else None
    *modules, name = str(symbol).removeprefix("compat.v1.").split(".")
    return modules[0] in _OPERATION_MODULES if modules else name in _OPERATIONS

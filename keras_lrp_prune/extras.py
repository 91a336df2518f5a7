"""Packages that only some exports and profiles need."""

from __future__ import annotations

import importlib
from types import ModuleType

# Module to the package that has it, the versions that will do, and what it is needed for.
_PACKAGES = {
    "tensorflow_serving.apis.prediction_log_pb2": (
        "tensorflow-serving-api",
        ">=2.18,<{above}",
        "Warm-up requests are written",
    ),
    **dict.fromkeys(
        ("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"),
        ("ai-edge-litert", ">=1.2,<3", "A .tflite file is run"),
    ),
}


class MissingExtraError(ImportError):
    """A package that is no dependency of this one is needed; the message has the pip command."""


def extra(module: str) -> ModuleType:
    """Imports a module of an optional package.

    Args:
        module: A key of the table above.

    Raises:
        MissingExtraError: If it is not installed, or fails to import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, versions, purpose = _PACKAGES[module]
        raise MissingExtraError(
            f"{purpose} with {package}, which cannot be imported ({error}). Install it with:\n"
            f'    pip install "{package}{versions.format(above=_next_tensorflow())}"'
        ) from error


def _next_tensorflow() -> str:
    """The minor version after that of the installed TensorFlow, which it must not replace."""
    import tensorflow as tf

    major, minor, *_ = tf.__version__.split(".")
    return f"{major}.{int(minor) + 1}"

"""Where results go: checked before any work is done, so that no input is overwritten or lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_lrp_prune.data import DataError
from keras_lrp_prune.files import check_writable

# What commands write into a folder.
MODEL, RECORD = "model.keras", "result.json"
RESULT = (MODEL, RECORD, "curve.png")
COMPARISON = ("comparison.json", "curves.png", "harmonic.png")
RELEVANCE = ("relevance.npz", "heatmaps.png")
CHECKPOINT = ("pruning.npz",)


def check_output(
    path: Path,
    option: str,
    *,
    names: Sequence[str] = (),
    inputs: Iterable[Path | None] = (),
    images: Iterable[Path | None] = (),
) -> None:
    """Checks that a file or folder can be written, and that no input is there.

    Args:
        path: The file; with `names`, the folder that files of those names go to.
        option: What named it.
        names: Names of the files.
        inputs: Files that are read; `None` is none.
        images: Folders of images that are read. What is written into one would be taken for a
            class, or for an image of one.

    Raises:
        DataError: If an input would be overwritten, or changed.
        OSError: If it cannot be written.
    """
    targets = [path / name for name in names] or [path]
    for source in filter(None, inputs):
        if any(_is_same(source, target) for target in targets):
            raise DataError(
                f"{option} {path} would overwrite {source}, which is read; choose another place."
            )
    for folder in filter(None, images):
        if any(_is_same(folder, parent) for parent in (path, *path.resolve().parents)):
            raise DataError(
                f"{option} {path} lies in the folder of images {folder}, where it would be taken "
                "for a class; choose another place."
            )
    check_writable(path if names else path.parent)


def check_free(option: str, folder: Path, result: str, overwrite: bool) -> None:
    """Checks that no earlier result would be replaced, unless the user allows it.

    Args:
        option: What named the folder.
        folder: Where the result goes.
        result: Name of a file that every such result has.
        overwrite: Whether it may be replaced.

    Raises:
        DataError: If there is one.
    """
    if not overwrite and (folder / result).exists():
        raise DataError(
            f"{folder} holds a result already ({result}), which may have taken long to make: give "
            f"another {option}, or --overwrite to replace it."
        )


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place, whether or not there is anything yet."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()

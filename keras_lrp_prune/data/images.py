"""Labelled images from a folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.data.class_names import checked_names
from keras_lrp_prune.data.errors import DataError, DataNotFoundError
from keras_lrp_prune.data.labels import draw_per_class
from keras_lrp_prune.data.pixels import read_pixels

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"})


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images read from one sub-folder per class.

    It can be given where labelled samples are asked for, such as to `prune`, if the model takes
    images as they are, in 0..255: its preprocessing is a part of it. Else preprocess first; with
    `dataclasses.replace(images, x=preprocess(images.x))` the names stay known.

    Attributes:
        x: Images, float32, RGB in 0..255, shape `(n, height, width, 3)`.
        y: Class of each image, an index into `class_names`, int64, shape `(n,)`.
        class_names: Names of the sub-folders, in the order of the labels.
        files: File of each image.
    """

    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return (
            f"ImageFolder({len(self)} images of shape {self.x.shape[1:]}, "
            f"{len(self.class_names)} classes)"
        )


@checked
def load_image_folder(
    folder: str | Path,
    *,
    image_size: tuple[int, int],
    per_class: int | None = None,
    seed: int = 0,
    class_names: Iterable[str] | None = None,
    antialias: bool = False,
) -> ImageFolder:
    """Reads labelled images from a folder with one sub-folder per class.

    The pixels are those that `keras.utils.image_dataset_from_directory` gives by default for the
    same file and size, so that a model sees what it was trained on: decoded by TensorFlow, resized
    between the nearest four pixels; what EXIF says of the orientation is not applied. Hidden files
    and folders are passed over, and so are files that are no JPEG, PNG, BMP, GIF (of which the
    first frame counts) or WebP.

    Args:
        folder: The folder.
        image_size: `(height, width)` to resize each image to, bilinearly.
        per_class: Images to draw of each class; by default all. Only those drawn are read, and
            they are those that `draw_per_class` draws from the labels of the whole folder, its
            classes sorted: `class_names` does not change which.
        seed: Seed of the draw.
        class_names: Names of all sub-folders in the order of the model's outputs, which the labels
            follow; by default sorted.
        antialias: Decode and resize by Pillow, whose bilinear filter averages over all pixels of
            an image that gets smaller: for a model that was trained on such images.

    Returns:
        The images, ordered by class and file name.

    Raises:
        DataNotFoundError: If the folder does not exist.
        DataError: If it is no folder, has no class sub-folder, a class has no image or fewer than
            `per_class`, an image cannot be read, or `class_names` are not the sub-folders.
        TypeError, ValueError: For arguments of another type or outside their ranges.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("daisy", "tulip"):
        ...     (root / name).mkdir()
        ...     Image.new("RGB", (40, 30)).save(root / name / "1.png")
        >>> flowers = load_image_folder(root, image_size=(24, 24))
        >>> flowers
        ImageFolder(2 images of shape (24, 24, 3), 2 classes)
        >>> flowers.class_names, flowers.x.shape
        (('daisy', 'tulip'), (2, 24, 24, 3))
        >>> load_image_folder(root, image_size=(24, 24), class_names=["tulip", "daisy"]).class_names
        ('tulip', 'daisy')
    """
    found = scan_image_folder(folder, per_class=per_class, seed=seed, class_names=class_names)
    x = np.empty((len(found.files), *image_size, 3), np.float32)
    for i, file in enumerate(found.files):
        x[i] = read_pixels(file, image_size, antialias=antialias)
    return ImageFolder(x, found.y, found.class_names, found.files)


@dataclass(frozen=True, eq=False)
class FoundImages:
    """The images of a folder before they are read; the fields are those of `ImageFolder`."""

    y: np.ndarray
    class_names: tuple[str, ...]
    files: tuple[Path, ...]


@checked
def scan_image_folder(
    folder: str | Path,
    *,
    per_class: int | None = None,
    seed: int = 0,
    class_names: Iterable[str] | None = None,
) -> FoundImages:
    """Finds the images that `load_image_folder` would read, and reads none.

    Args:
        folder: The folder.
        per_class: Images to draw of each class; by default all.
        seed: Seed of the draw.
        class_names: Names of all sub-folders, in the order of the labels; by default sorted.

    Returns:
        Their labels, class names and files.

    Raises:
        DataNotFoundError, DataError: As `load_image_folder` does, except for unreadable images.
    """
    found, files, y = _scan(Path(folder))
    names = found if class_names is None else _in_order(found, class_names, folder)
    if per_class is not None:
        chosen, _ = draw_per_class(y, per_class, seed, class_names=found)
        files, y = [files[i] for i in chosen], y[chosen]
    labels = np.array([names.index(name) for name in found])[y]
    order = np.argsort(labels, kind="stable")
    return FoundImages(labels[order], names, tuple(files[i] for i in order))


def _in_order(
    found: tuple[str, ...], class_names: Iterable[str], folder: str | Path
) -> tuple[str, ...]:
    """The class names as they are given, which have to be those of the sub-folders found."""
    names = checked_names(class_names)
    differences = {
        "there is no sub-folder": [name for name in names if name not in found],
        "not named is": [name for name in found if name not in names],
    }
    told = [f"{what} {', '.join(map(repr, which))}" for what, which in differences.items() if which]
    if told:
        raise DataError(
            f"The class names are not those of the sub-folders of {folder}: {'; '.join(told)}. "
            "Give the name of each sub-folder once, in the order of the model's outputs."
        )
    return names


def _scan(folder: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    """Lists the classes and images of a folder."""
    layout = "Give a folder with one sub-folder of images per class."
    if not folder.exists():
        raise DataNotFoundError(f"The image folder {folder} does not exist. {layout}")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. {layout}")
    classes = sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name,
    )
    if not classes:
        raise DataError(f"The folder {folder} has no sub-folders. {layout}")
    files: list[Path] = []
    y: list[int] = []
    for index, class_folder in enumerate(classes):
        images = sorted(
            p
            for p in class_folder.iterdir()
            if p.is_file() and not p.name.startswith(".") and p.suffix.lower() in IMAGE_SUFFIXES
        )
        if not images:
            inner = any(p.is_dir() for p in class_folder.iterdir())
            raise DataError(
                f"The class folder {class_folder} holds no image "
                f"({', '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))}); add some or remove it."
                + (" If it holds the class folders, give it instead." if inner else "")
            )
        files += images
        y += [index] * len(images)
    return tuple(p.name for p in classes), files, np.asarray(y, np.int64)

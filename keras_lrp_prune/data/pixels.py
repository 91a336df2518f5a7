"""The pixels of an image file: decoded, and resized as Keras' own loader does it."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_lrp_prune.data.errors import DataError

# The only decoders of Pillow that are used, whatever a file is called: others are rarely tried on
# hostile files, and that for EPS runs Ghostscript. The one for JPEG reads phones' MPO files too.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
_JPEG = ("JPEG", "MPO")

_PER_LEVEL = (2**16 - 1) / (2**8 - 1)  # levels of 16 bits for each one of 8 bits

# What Pillow raises on a file that is no image, or only the beginning of one.
_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


def read_pixels(file: Path, image_size: tuple[int, int], *, antialias: bool) -> np.ndarray:
    """Reads an image as RGB of a size.

    Args:
        file: A JPEG, PNG, BMP, GIF (the first frame counts) or WebP.
        image_size: `(height, width)` to resize it to, bilinearly.
        antialias: Whether to decode and resize by Pillow, whose filter averages over all pixels
            where an image gets smaller. Else as `keras.utils.image_dataset_from_directory` does
            it: by TensorFlow, which interpolates between the nearest four.

    Returns:
        Numbers in 0..255, float32, shape `(height, width, 3)`.

    Raises:
        DataError: If it is no such image, or a damaged one.
    """
    try:
        content = file.read_bytes()
        with _opened(content) as image:
            if antialias:
                height, width = image_size
                pixels = _decoded(image).resize((width, height), Image.Resampling.BILINEAR)
                return _in_rgb(np.asarray(pixels, np.float32))
            # Pillow's decoder for JPEG differs from TensorFlow's by up to 7 of 255 levels.
            of_jpeg = image.format in _JPEG
            levels = _of_jpeg(content) if of_jpeg else np.asarray(_decoded(image))
    except UnidentifiedImageError as error:
        raise DataError(
            f"{file} is no JPEG, PNG, BMP, GIF or WebP image, whatever it is called. Convert, "
            "replace or remove the file."
        ) from error
    except _UNREADABLE as error:
        raise DataError(
            f"Cannot read the image {file}: {error}. Replace or remove the file."
        ) from error
    return _in_rgb(_interpolated(levels, image_size))


def _opened(content: bytes) -> Image.Image:
    """Opens an image, no larger than Pillow allows.

    Pillow warns from half of that size on. Ordinary photos are as large, so that the warning would
    only disturb, and be an error for users who turn warnings into errors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(content), formats=_FORMATS)


def _of_jpeg(content: bytes) -> np.ndarray:
    """The levels that TensorFlow decodes, as Keras' loader has it do."""
    import tensorflow as tf

    try:
        return tf.io.decode_jpeg(content, channels=3).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError("it is damaged, or the end of it is missing") from error


def _decoded(image: Image.Image) -> Image.Image:
    """The image in RGB of 8 bits; a grey one of 16 bits is scaled to the same range instead."""
    if image.mode.startswith("I"):  # Pillow would cut off what is above 255
        return Image.fromarray(np.asarray(image, np.float32) / _PER_LEVEL)
    return image.convert("RGB")


def _in_rgb(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, -1)


def _interpolated(levels: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """As `tf.image.resize`: between the nearest pixels, each of which stands for its centre."""
    height, width = image_size
    return _along(_along(levels, 1, width), 0, height)


def _along(levels: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Interpolates along one axis, in float32."""
    present = levels.shape[axis]
    scale = np.float32(present) / np.float32(size)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    before = np.floor(place)
    near, far = (
        levels.take(np.clip(ends, 0, present - 1).astype(int), axis).astype(np.float32)
        for ends in (before, np.ceil(place))
    )
    share = (place - before).reshape([-1 if i == axis else 1 for i in range(levels.ndim)])
    return near + (far - near) * share

"""Images are read as Keras' own loader reads them, or by Pillow's filter."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_lrp_prune.data import DataError, load_image_folder
from keras_lrp_prune.data.pixels import read_pixels

SIZES = [(97, 131), (40, 30), (24, 24), (300, 211)]  # of the files, height first
FORMATS = {
    "quality.jpg": {"quality": 90},
    "poor.jpeg": {"quality": 30, "subsampling": 2, "progressive": True},
    "whole.jpg": {"subsampling": 0},
    "image.png": {},
    "image.bmp": {},
    "image.gif": {},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Smooth and noisy images of several sizes, formats and modes, with all EXIF orientations."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("smooth", "noisy"):
        (root / name).mkdir()
        for height, width in SIZES:
            coarse = (height // 8, width // 8) if name == "smooth" else (height, width)
            levels = rng.integers(0, 256, (*coarse, 3), np.uint8)
            image = Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)
            for label, options in FORMATS.items():
                image.save(root / name / f"{height} {label}", **options)
            image.convert("L").save(root / name / f"{height} grey.jpg")
            image.convert("CMYK").save(root / name / f"{height} print.jpg")
            image.convert("RGBA").save(root / name / f"{height} clear.png")
            image.convert("P").save(root / name / f"{height} palette.png")
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            image.save(root / name / f"turned {orientation}.jpg", exif=exif)
    return root


def by_keras(folder, image_size):
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=image_size, shuffle=False, batch_size=1, verbose=False
    )
    return {file: x.numpy()[0] for file, (x, _) in zip(dataset.file_paths, dataset, strict=True)}


@pytest.mark.parametrize("image_size", [(24, 24), (128, 96), (97, 131), (7, 300), (1, 1)])
def test_pixels_are_those_of_keras_loader(photos, image_size):
    """JPEG needs TensorFlow's decoder: that of Pillow is up to 7 levels off."""
    found, expected = load_image_folder(photos, image_size=image_size), by_keras(photos, image_size)
    assert {str(file) for file in found.files} == set(expected)
    for file, pixels in zip(found.files, found.x, strict=True):
        np.testing.assert_allclose(pixels, expected[str(file)], atol=1e-3, err_msg=str(file))


def test_images_of_their_own_size_are_not_touched(photos):
    found = load_image_folder(photos, image_size=SIZES[0])
    for file, pixels in zip(found.files, found.x, strict=True):
        if file.name.startswith("97 ") and file.suffix != ".jpg" and file.suffix != ".jpeg":
            np.testing.assert_array_equal(pixels, np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize("image_size", [(24, 24), (97, 131)])
def test_antialias_is_the_filter_of_pillow(photos, image_size):
    found = load_image_folder(photos, image_size=image_size, antialias=True)
    for file, pixels in zip(found.files, found.x, strict=True):
        with Image.open(file) as image:
            resized = image.convert("RGB").resize(image_size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(pixels, np.asarray(resized), err_msg=str(file))


@pytest.mark.parametrize("antialias", [False, True])
def test_damaged_jpegs_are_errors_in_both_decoders(tmp_path, antialias):
    (tmp_path / "red").mkdir()
    path = tmp_path / "red" / "photo.jpg"
    Image.new("RGB", (64, 64), "red").save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"Cannot read the image .*photo\.jpg"):
        load_image_folder(tmp_path, image_size=(8, 8), antialias=antialias)


def test_antialias_is_true_or_false(photos):
    with pytest.raises(TypeError, match="antialias takes True or False"):
        load_image_folder(photos, image_size=(8, 8), antialias="no")


def test_an_image_folder_is_shown_in_a_line(photos):
    assert repr(load_image_folder(photos, image_size=(8, 6), per_class=2)) == (
        "ImageFolder(4 images of shape (8, 6, 3), 2 classes)"
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("antialias", [False, True])
def test_a_large_image_is_read_and_one_beyond_the_limit_refused(tmp_path, monkeypatch, antialias):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (12, 12), (9, 9, 9)).save(tmp_path / "large.png")
    pixels = read_pixels(tmp_path / "large.png", (4, 4), antialias=antialias)
    assert (pixels == 9).all()
    Image.new("RGB", (15, 15)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match=r"huge\.png.*exceeds limit of 200 pixels"):
        read_pixels(tmp_path / "huge.png", (4, 4), antialias=antialias)

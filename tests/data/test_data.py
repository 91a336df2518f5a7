import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image
from tiers import examples

from keras_lrp_prune.data import (
    DataError,
    DataNotFoundError,
    ReferenceSet,
    draw_per_class,
    load_image_folder,
    reference_set,
    sparse_labels,
)

X = np.arange(6 * 4 * 4 * 3, dtype="float32").reshape(6, 4, 4, 3)
Y = np.array([0, 1, 2, 0, 1, 2])


def changed(array, index, value):
    array = np.array(array, dtype=float)
    array[index] = value
    return array


# Labels


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_every_form_of_labels_means_the_same(classes):
    one_hot = np.eye(5)[classes]
    column = np.reshape(classes, (-1, 1))
    for labels in (classes, column, np.float32(classes), one_hot, one_hot.astype(bool)):
        sparse, n_classes = sparse_labels(labels, 5)
        assert sparse.tolist() == classes
        assert sparse.dtype == np.int64
        assert n_classes == 5


def test_bools_are_the_two_classes_of_a_sigmoid_unit():
    sparse, n_classes = sparse_labels(np.array([[True], [False]]))
    assert sparse.tolist() == [1, 0]
    assert n_classes == 2


@pytest.mark.parametrize(
    ("labels", "n_classes", "message"),
    [
        ([0, 1, 3], 3, r"within 0 to 2.*row 2 \(value 3\)"),
        ([0, -1, -2], 3, r"negative.*rows 1, 2 \(values -1, -2\)"),
        ([0, 0.5, 1], 2, r"whole.*row 1 \(value 0\.5\)"),
        ([0, np.nan], 2, r"whole.*row 1"),
        ([0, 1e300], None, "within 0 to"),
        (["cat", "dog"], 2, "must hold numbers"),
        ([[0], [1, 2]], 2, "cannot be read as one array"),
        ([], 2, "no label"),
        (np.zeros((0, 3)), 3, "no label"),
        (np.zeros((2, 3, 3)), 3, r"shape \(2, 3, 3\)"),
        ([[1, 0], [1, 1], [0, 0]], 2, r"one-hot.*rows 1, 2"),
        ([[0.5, 0.5]], 2, r"one-hot.*row 0"),
        ([[1, 0]], 3, "2 columns, but there are 3 classes"),
        ([0, 0], 1, "at least 2"),
    ],
)
def test_bad_labels_are_refused(labels, n_classes, message):
    with pytest.raises(DataError, match=message):
        sparse_labels(labels, n_classes)


def test_long_lists_of_bad_labels_are_cut():
    with pytest.raises(DataError, match="rows 0, 1, 2, 3, 4 and 95 more"):
        sparse_labels(np.full(100, 9), 3)


# Reference sets


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("uint8", "float32"), ("int64", "float32"), ("bool", "float32"), ("float64", "float64")],
)
def test_samples_become_floating(dtype, expected):
    samples = reference_set((X.astype(dtype), Y))
    assert samples.x.dtype == expected
    assert samples.y.dtype == np.int64
    assert samples.n_classes == 3
    assert samples.class_counts.tolist() == [2, 2, 2]


def test_a_reference_set_cannot_be_changed_but_the_given_array_can():
    x = X.copy()
    samples = reference_set((x, Y))
    with pytest.raises(ValueError, match="read-only"):
        samples.x[0] = 0
    x[0] = 0


def test_fingerprint_tells_samples_labels_and_dtypes_apart():
    prints = [
        reference_set(pair).fingerprint()
        for pair in [(X, Y), (X, np.eye(3)[Y]), (X, Y[::-1]), (X[::-1], Y), (X.astype(float), Y)]
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    whole, reordered, relabelled = (
        reference_set(pair).fingerprint(in_order=False)
        for pair in [(X, Y), (X[::-1], Y[::-1]), (X[::-1], Y)]
    )
    assert whole == reordered != relabelled


def test_input_shape_may_leave_sizes_open():
    assert len(reference_set((X, Y), input_shape=(None, None, 3))) == 6


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((changed(X, (4, 0, 0, 0), np.nan), Y), {}, "NaN or infinite values in sample 4"),
        ((changed(X, (1, 0, 0, 0), np.inf), Y), {}, "NaN or infinite values in sample 1"),
        ((X.astype(str), Y), {}, "x must hold numbers"),
        ((X + 1j, Y), {}, "x must hold numbers"),
        ((X[:0], Y[:0]), {}, "at least one sample"),
        ((np.zeros(6), Y), {}, r"shape \(n, ...\)"),
        ((X[:5], Y), {}, "5 samples but y holds 6 labels"),
        ((X, Y), {"input_shape": (4, 4, 1)}, r"\(4, 4, 3\), the model takes \(4, 4, 1\)"),
        ((X, Y), {"input_shape": (48,)}, r"the model takes \(48,\)"),
        ((X, Y), {"n_classes": 2}, "within 0 to 1"),
        ((X, Y), {"n_classes": 5}, "2 of 5 classes have no sample: 3, 4"),
        ((X, Y * 0), {}, "1 of 2 classes have no sample: 1"),
        ((X, changed(Y, 0, 2e9)), {}, r"classes have no sample: 0?.*, \.\.\."),
        ((X, Y, Y), {}, "not a tuple of 3 elements"),
        (X, {}, "not a ndarray"),
    ],
)
def test_bad_data_is_refused(data, options, message):
    with pytest.raises(DataError, match=message):
        reference_set(data, **options)


def test_a_missing_class_may_be_allowed():
    samples = reference_set((X, Y), n_classes=5, require_all_classes=False)
    assert samples.class_counts.tolist() == [2, 2, 2, 0, 0]
    with pytest.raises(DataError, match="no sample"):
        reference_set(samples)


def test_a_reference_set_passes_through_but_is_checked_again():
    samples = reference_set((X, Y))
    assert reference_set(samples, n_classes=3, input_shape=(4, 4, 3)) is samples
    with pytest.raises(DataError, match="the model takes"):
        reference_set(samples, input_shape=(8, 8, 3))
    with pytest.raises(DataError, match="3 classes, the model scores 4"):
        reference_set(samples, n_classes=4)


# Datasets


def dataset(*tensors):
    return pytest.importorskip("tensorflow").data.Dataset.from_tensor_slices(tensors)


@pytest.mark.parametrize("labels", [Y, Y.reshape(-1, 1), np.eye(3)[Y]])
def test_a_dataset_gives_what_the_arrays_give(labels):
    samples = reference_set(dataset(X, labels).batch(4))
    assert isinstance(samples, ReferenceSet)
    assert samples.fingerprint() == reference_set((X, Y)).fingerprint()


def test_bad_datasets_are_refused():
    cases = [
        (dataset(X, Y).batch(2).repeat(), {}, "infinite"),
        (dataset(X, Y), {}, "batch it"),
        (dataset(X, np.eye(3)[Y]), {"input_shape": (4, 4, 3)}, "batch it"),
        (dataset(X, np.eye(3)[Y]), {}, "Batch 0 .* 4 samples but 3 labels"),
        (dataset(X, Y, Y).batch(2), {}, r"pairs \(x, y\)"),
        (dataset(X, Y).batch(2).take(0), {}, "empty"),
        (dataset(changed(X, (5, 0, 0, 0), np.nan), Y).batch(2), {}, "sample 5"),
        (dataset(X, Y).batch(2).concatenate(dataset(X[:, :2], Y).batch(2)), {}, "differ in shape"),
    ]
    for data, options, message in cases:
        with pytest.raises(DataError, match=message):
            reference_set(data, **options)


# Draws


@examples(25)
@given(
    labels=st.lists(st.integers(0, 2), max_size=30).map(lambda drawn: drawn + [0, 1, 2] * 3),
    per_class=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_a_draw_parts_the_samples(labels, per_class, seed):
    drawn, rest = draw_per_class(labels, per_class, seed)
    assert np.bincount(np.array(labels)[drawn]).tolist() == [per_class] * 3
    assert sorted([*drawn, *rest]) == list(range(len(labels)))
    np.testing.assert_array_equal(drawn, draw_per_class(np.eye(3)[labels], per_class, seed)[0])


def test_draws_differ_by_seed():
    labels = np.repeat([0, 1], 50)
    assert not np.array_equal(draw_per_class(labels, 5, 0)[0], draw_per_class(labels, 5, 1)[0])


def test_a_draw_needs_enough_samples():
    with pytest.raises(DataError, match="Class 1 has 1 samples, fewer than per_class=2"):
        draw_per_class([0, 0, 1], 2)
    with pytest.raises(DataError, match="at least 1"):
        draw_per_class([0, 1], 0)


# Image folders


@pytest.fixture
def folder(tmp_path):
    """Two classes of five images, in several formats and modes, among other files."""
    root = tmp_path / "pictures"
    colours = {"red": (255, 0, 0), "blue": (0, 0, 255)}
    for name, colour in colours.items():
        (root / name).mkdir(parents=True)
        picture = Image.new("RGB", (20, 12), colour)
        for i, suffix in enumerate(("png", "bmp", "JPG", "webp")):
            picture.save(root / name / f"{i}.{suffix}")
        picture.convert("P").save(
            root / name / "4.gif", save_all=True, append_images=[Image.new("P", (20, 12))]
        )
        (root / name / "notes.txt").write_text("no image")
        (root / name / ".hidden.png").write_text("no image")
    (root / ".cache").mkdir()
    (root / "readme.txt").write_text("no class")
    return root


def test_an_image_folder_is_read(folder):
    images = load_image_folder(folder, image_size=(6, 10))
    assert images.class_names == ("blue", "red")
    assert images.x.shape == (10, 6, 10, 3)
    assert images.x.dtype == np.float32
    assert images.y.tolist() == [0] * 5 + [1] * 5
    assert [file.parent.name for file in images.files] == ["blue"] * 5 + ["red"] * 5
    # JPEG and WebP are lossy.
    np.testing.assert_allclose(images.x[:5], np.broadcast_to([0, 0, 255], (5, 6, 10, 3)), atol=3)
    np.testing.assert_allclose(images.x[5:], np.broadcast_to([255, 0, 0], (5, 6, 10, 3)), atol=3)


def test_image_size_is_height_and_width(folder):
    picture = np.zeros((12, 20, 3), np.uint8)
    picture[:6] = 255
    Image.fromarray(picture).save(folder / "blue" / "0.png")
    first = load_image_folder(folder, image_size=(4, 8)).x[0]
    assert first.shape == (4, 8, 3)
    assert first[0].min() == 255
    assert first[-1].max() == 0


def test_grey_images_become_rgb(folder):
    Image.new("L", (20, 12), 7).save(folder / "blue" / "0.png")
    assert (load_image_folder(folder, image_size=(6, 10)).x[0] == 7).all()


def save_png_of_16_bits(path, samples, colour_type):
    """Pillow writes grey ones only."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts.items()
        )
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_images_of_16_bits_are_scaled(folder, colour_type, channels):
    values = np.linspace(0, 2**16 - 1, 240).astype(np.uint16).reshape(12, 20, 1)
    samples = np.repeat(values, channels, -1)
    save_png_of_16_bits(folder / "blue" / "0.png", samples, colour_type)
    found = load_image_folder(folder, image_size=(12, 20)).x[0]
    np.testing.assert_allclose(found, np.repeat(values / 257, 3, -1), atol=1)


def test_drawn_images_are_those_of_draw_per_class(folder):
    everything = load_image_folder(folder, image_size=(6, 10))
    some = load_image_folder(folder, image_size=(6, 10), per_class=2, seed=3)
    drawn, _ = draw_per_class(everything.y, 2, 3)
    assert some.files == tuple(everything.files[i] for i in drawn)
    np.testing.assert_array_equal(some.x, everything.x[drawn])


def test_labels_follow_the_class_names(folder):
    """Which images are drawn does not depend on the order."""
    by_name = load_image_folder(folder, image_size=(6, 10), per_class=2, seed=3)
    images = load_image_folder(
        folder, image_size=(6, 10), per_class=2, seed=3, class_names=iter(["red", "blue"])
    )
    assert images.class_names == ("red", "blue") and images.y.tolist() == [0, 0, 1, 1]
    assert images.files == by_name.files[2:] + by_name.files[:2]
    np.testing.assert_array_equal(images.x, by_name.x[[2, 3, 0, 1]])


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (["red"], DataError, "not named is 'blue'"),
        (["red", "blue", "rose"], DataError, "there is no sub-folder 'rose'. Give"),
        (["Red", "blue"], DataError, "there is no sub-folder 'Red'; not named is 'red'"),
        (["red", "red"], DataError, "'red' is given twice"),
        ("red", TypeError, "a list of names"),
        ({"red", "blue"}, TypeError, "a list of names"),
    ],
)
def test_class_names_are_those_of_the_sub_folders(folder, names, error, words):
    with pytest.raises(error, match=words):
        load_image_folder(folder, image_size=(6, 10), class_names=names)


def test_a_single_class_can_be_read(folder):
    for file in (folder / "red").iterdir():
        file.unlink()
    (folder / "red").rmdir()
    assert len(load_image_folder(folder, image_size=(6, 10), per_class=2)) == 2


def test_bad_image_folders_are_refused(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    size = (6, 10)
    with pytest.raises(DataNotFoundError, match="does not exist") as missing:
        load_image_folder(tmp_path / "absent", image_size=size)
    assert isinstance(missing.value, FileNotFoundError)
    with pytest.raises(DataError, match="not a folder"):
        load_image_folder(folder / "readme.txt", image_size=size)
    with pytest.raises(DataError, match="no sub-folders"):
        load_image_folder(empty, image_size=size)
    with pytest.raises(DataError, match=r"empty holds no image.*webp.*remove it\.$"):
        load_image_folder(tmp_path, image_size=size)
    with pytest.raises(DataError, match="Class 'blue' has 5 samples, fewer than per_class=6"):
        load_image_folder(folder, image_size=size, per_class=6)
    with pytest.raises(ValueError, match=r"image_size\[0\] must be at least 1"):
        load_image_folder(folder, image_size=(0, 10))
    empty.rmdir()
    with pytest.raises(DataError, match="give it instead"):
        load_image_folder(tmp_path, image_size=size)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6])
def test_truncated_images_are_named(folder, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    broken = folder / "red" / f"broken.{suffix}"
    Image.fromarray(noise).save(broken)
    whole = broken.read_bytes()
    broken.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=f"broken.{suffix}"):
        load_image_folder(folder, image_size=(6, 10))


@pytest.mark.parametrize("kind", ["EPS", "TIFF", "DDS", "PPM", "TGA", "SPIDER"])
def test_other_formats_are_refused_whatever_they_are_called(folder, kind, tmp_path, monkeypatch):
    program, ran = tmp_path / "gs", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    made = tmp_path / f"photo.{kind}"  # Pillow's writer for SPIDER takes the suffix for its own
    Image.new("F" if kind == "SPIDER" else "RGB", (8, 8)).save(made, format=kind)
    made.rename(folder / "red" / "photo.png")
    with pytest.raises(DataError, match=r"photo\.png is no JPEG, PNG, BMP, GIF or WebP"):
        load_image_folder(folder, image_size=(6, 10))
    assert not ran.exists()


def test_phones_pairs_of_images_count_as_the_first(folder):
    first, second = (Image.new("RGB", (20, 12), colour) for colour in ("red", "blue"))
    path = folder / "red" / "0.jpg"
    first.save(path, format="MPO", save_all=True, append_images=[second])
    found = load_image_folder(folder, image_size=(6, 10))
    np.testing.assert_allclose(
        found.x[found.files.index(path)], np.full((6, 10, 3), (255, 0, 0)), atol=3
    )

"""Reference sets: arrays, datasets and image folders, checked once, here."""

from keras_lrp_prune.data.class_names import checked_names, names_of, shown_names
from keras_lrp_prune.data.datasets import labelled_batches
from keras_lrp_prune.data.errors import DataError, DataNotFoundError
from keras_lrp_prune.data.images import ImageFolder, load_image_folder, scan_image_folder
from keras_lrp_prune.data.labels import draw_per_class, sparse_labels
from keras_lrp_prune.data.model_input import cast, check_fits
from keras_lrp_prune.data.reference import ReferenceSet, reference_set, unlabelled

__all__ = [
    "DataError",
    "DataNotFoundError",
    "ImageFolder",
    "ReferenceSet",
    "cast",
    "check_fits",
    "checked_names",
    "draw_per_class",
    "labelled_batches",
    "load_image_folder",
    "names_of",
    "reference_set",
    "scan_image_folder",
    "shown_names",
    "sparse_labels",
    "unlabelled",
]

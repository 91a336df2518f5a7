"""A linear classifier on the features of a frozen backbone: the data-scarce transfer set-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.data import reference_set
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.recovery.threads import one_thread
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE, CompiledForward

if TYPE_CHECKING:
    import keras

# Inverse strengths of the L2 penalty to choose from, for features scaled to unit mean square.
_STRENGTHS = tuple(10.0**power for power in range(-3, 4))
_FOLDS = 5
# Where few features are left, lbfgs takes thousands of iterations.
_REGRESSION = {"solver": "newton-cg", "max_iter": 1000}


@checked
def with_linear_head(
    backbone: keras.Model,
    reference: Any,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    name: str = "predictions",
) -> keras.Model:
    """Puts a linear softmax classifier on a frozen backbone, fitted on its features.

    Multinomial logistic regression by scikit-learn; the strength of its L2 penalty is chosen by
    cross-validation on the same samples. Costs one forward pass; the backbone is not changed and
    its layers are shared with the new model.

    Args:
        backbone: A Keras model (3 or legacy) with one input and `(batch, features)` outputs, such
            as `keras.applications.MobileNet(include_top=False, pooling="avg")`.
        reference: Labelled samples, `(x, y)` or a batched `tf.data.Dataset`, preprocessed as the
            backbone wants them.
        batch_size: Samples per batch.
        name: Name of the new layer.

    Returns:
        A functional model from the backbone's input to class probabilities.

    Raises:
        UnsupportedModelError: If the backbone's output is not `(batch, features)`.
        DataError: For unusable samples or labels.
        TypeError, ValueError: For another argument of another type or outside its range.

    Example:
    >>> backbone = keras.applications.MobileNet(
    ...     weights=None, include_top=False, pooling="avg", input_shape=(96, 96, 3)
    ... )
    >>> model = klp.with_linear_head(backbone, (x, y))
    """
    keras = keras_of(backbone)
    if (
        not getattr(backbone, "inputs", None)
        or len(backbone.inputs) != 1
        or len(backbone.outputs) != 1
        or len(backbone.outputs[0].shape) != 2
    ):
        raise UnsupportedModelError(
            f"The backbone {backbone.name!r} must have one input and one (batch, features) output; "
            "end it with GlobalAveragePooling2D (pooling='avg')."
        )
    samples = reference_set(reference, input_shape=backbone.inputs[0].shape[1:])
    features = CompiledForward(backbone, batch_size)(samples.x)
    kernel, bias = fit_head(features, samples.y, best_strength(features, samples.y))
    dense = keras.layers.Dense(len(bias), activation="softmax", name=name)
    model = keras.Model(backbone.inputs[0], dense(backbone.outputs[0]), name=backbone.name)
    dense.set_weights([kernel, bias])
    return model


def best_strength(features: np.ndarray, y: np.ndarray, *, bias: bool = True) -> float:
    """The inverse strength of the penalty that cross-validation favours.

    Args:
        features: Shape `(samples, features)`.
        y: Classes, shape `(samples,)`.
        bias: Whether the classifier has one.

    Returns:
        The inverse strength, for features of unit mean square.
    """
    folds = folds_of(y)
    if folds is None:
        return 1.0
    regression = LogisticRegression(**_REGRESSION, fit_intercept=bias)
    search = GridSearchCV(regression, {"C": _STRENGTHS}, cv=folds, scoring="neg_log_loss")
    with one_thread():
        search.fit(_in_few_numbers(features)[0], y)
    return float(search.best_params_["C"])


def fit_head(
    features: np.ndarray, y: np.ndarray, strength: float, *, bias: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a linear classifier on features: multinomial logistic regression.

    Args:
        features: Shape `(samples, features)`.
        y: Classes, shape `(samples,)`.
        strength: Inverse strength of the L2 penalty, for features of unit mean square.
        bias: Whether the classifier has one.

    Returns:
        Weights `(features, classes)` and biases `(classes,)` of class logits; zeros without bias.
    """
    regression = LogisticRegression(C=strength, **_REGRESSION, fit_intercept=bias)
    with one_thread():
        rows, basis = _in_few_numbers(features)
        regression.fit(rows, y)
    kernel = basis @ regression.coef_.T / scale_of(features)
    shift = np.broadcast_to(regression.intercept_, kernel.shape[1])
    if kernel.shape[1] == 1:  # two classes: scikit-learn keeps the difference of their scores
        kernel, shift = np.hstack([-kernel, kernel]) / 2, np.concatenate([-shift, shift]) / 2
    return kernel, shift


FoldHead = tuple[np.ndarray, np.ndarray, np.ndarray]


def fold_heads(
    features: np.ndarray, y: np.ndarray, strength: float, *, bias: bool = True
) -> list[FoldHead]:
    """Heads for cross-fitting: each fitted without the samples of one fold.

    Args:
        features: Shape `(samples, features)`.
        y: Classes, shape `(samples,)`; at least two samples of each.
        strength: As in `fit_head`.
        bias: As in `fit_head`.

    Returns:
        For each fold the indices of its samples, and weights and biases fitted on the others.

    Raises:
        ValueError: If a class has a single sample.
    """
    folds = folds_of(y)
    if folds is None:
        raise ValueError("Cross-fitting takes at least two samples of each class.")
    return [
        (held_out, *fit_head(features[fitted], y[fitted], strength, bias=bias))
        for fitted, held_out in folds.split(features, y)
    ]


def held_out_probabilities(features: np.ndarray, heads: list[FoldHead]) -> np.ndarray:
    """Class probabilities of each sample by the head that was fitted without it.

    Args:
        features: Of the same samples as those of `fold_heads`, shape `(samples, features)`.
        heads: What `fold_heads` returned.

    Returns:
        Shape `(samples, classes)`.
    """
    found = np.empty((len(features), len(heads[0][2])))
    for held_out, kernel, bias in heads:
        found[held_out] = softmax(features[held_out].astype(np.float64) @ kernel + bias, axis=1)
    return found


def folds_of(y: np.ndarray) -> StratifiedKFold | None:
    """Folds with samples of each class, at most five; `None` if a class has a single sample."""
    count = min(_FOLDS, int(np.bincount(y).min()))
    return StratifiedKFold(count) if count >= 2 else None


def _in_few_numbers(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scaled features of few samples as coordinates, and the basis that they refer to.

    With an L2 penalty the best weights lie in the span of the samples, so that nothing is lost.
    """
    scaled = features.astype(np.float64) / scale_of(features)
    if scaled.shape[0] >= scaled.shape[1]:
        return scaled, np.eye(scaled.shape[1])
    basis = np.linalg.qr(scaled.T)[0]
    return scaled @ basis, basis


def scale_of(features: np.ndarray) -> float:
    """One common scale for all features, so that strengths of the penalty are comparable."""
    return float(np.sqrt((features.astype(np.float64) ** 2).mean()) or 1.0)

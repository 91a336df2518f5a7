"""A linear head corrected towards the labels of a few samples, its own weights being the prior.

A head fitted anew forgets what the model's own one knows from all the data that it was trained on;
left as it is, it reads features that pruning and refitting have changed. So the correction is what
is penalised, and cross-validation says how much of it the samples can carry. It judges by accuracy:
the log loss of a head that is too sure of itself falls with any change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from keras_lrp_prune.evaluation import DECIMALS, class_accuracies, harmonic_mean_accuracy
from keras_lrp_prune.recovery.head import folds_of, scale_of
from keras_lrp_prune.recovery.threads import one_thread

# Inverse strengths of the penalty to choose from, for features scaled to unit mean square.
_STRENGTHS = tuple(10.0**power for power in range(-4, 4))
# By how many standard deviations more samples are righted than spoiled.
_DEVIATIONS = 1.5
_SEARCH = {"maxiter": 200, "ftol": 1e-7}
# The second derivative of a sample's loss by a logit, about.
_STEEPNESS = 0.1
_TINY = 1e-12


@dataclass(frozen=True)
class CorrectedHead:
    """A linear head, and what it is worth.

    Args:
        kernel: Weights of class logits, float64, shape `(features, classes)`.
        bias: float64, shape `(classes,)`.
        held_out: Class probabilities of each sample by a head that was corrected without it, in the
            same way, shape `(samples, classes)`.
    """

    kernel: np.ndarray
    bias: np.ndarray
    held_out: np.ndarray


def corrected_head(
    features: np.ndarray, y: np.ndarray, kernel: np.ndarray, bias: np.ndarray, *, shifts: bool
) -> CorrectedHead | None:
    """Corrects a head by multinomial logistic regression.

    The penalty on the change, an L2 norm, is the strongest of those with which the mean class
    accuracy on samples of other folds is highest. The correction stands where it rights more of
    them than it spoils by 1.5 standard deviations of their difference, and their harmonic mean
    accuracy is no lower.

    Args:
        features: Shape `(samples, features)`.
        y: Classes, shape `(samples,)`.
        kernel: The weights to start from, shape `(features, classes)`.
        bias: Shape `(classes,)`.
        shifts: Whether the head has a bias, so that it can change.

    Returns:
        The head; `None` where no correction stands, a class has a single sample, or what the head
        gives is not finite.
    """
    folds = folds_of(y)
    if folds is None:
        return None
    features = features.astype(np.float64)
    logits = features @ kernel + bias
    if not np.isfinite(logits).all():
        return None
    best, highest, held_out = 0.0, _accuracy(logits, y), logits
    with one_thread():
        parts = [
            (_Regression(features[fitted], y[fitted], logits[fitted], shifts=shifts), held)
            for fitted, held in folds.split(features, y)
        ]
        for strength in _STRENGTHS:
            found = logits.copy()
            for part, held in parts:
                change, shift = part.correction(strength)
                found[held] += features[held] @ change + shift
            if (accuracy := _accuracy(found, y)) > highest:
                best, highest, held_out = strength, accuracy, found
        if not best or not _stands(logits, held_out, y):
            return None
        change, shift = _Regression(features, y, logits, shifts=shifts).correction(best)
    return CorrectedHead(kernel + change, bias + shift, softmax(held_out, axis=1))


class _Regression:
    """The changes of logits that make labels likely, from one strength of the penalty to the next.

    Args:
        features, y, logits: Of the samples that are fitted to.
        shifts: Whether biases change.
    """

    def __init__(
        self, features: np.ndarray, y: np.ndarray, logits: np.ndarray, *, shifts: bool
    ) -> None:
        self._scale = scale_of(features)
        # Along these directions samples have nothing in common: steps do not disturb each other.
        left, sizes, self._directions = np.linalg.svd(features / self._scale, full_matrices=False)
        ones = np.ones((len(left), int(shifts)))
        self._rows = np.hstack([left * sizes, ones])
        self._is_free = np.arange(self._rows.shape[1]) >= len(sizes)
        self._logits, self._wanted = logits, np.eye(logits.shape[1])[y]
        self._found = np.zeros((self._rows.shape[1], logits.shape[1]))

    def correction(self, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """What to add to the kernel and to the bias; starts where the last one ended."""
        penalty = np.where(self._is_free, 0.0, 1 / strength)[:, None]
        # In units in which the loss is as steep in every direction, few steps will do.
        unit = 1 / np.sqrt(_STEEPNESS * (self._rows**2).sum(0)[:, None] + penalty + _TINY)
        rows, shape = self._rows, self._found.shape

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = unit * flat.reshape(shape)
            log_shares = log_softmax(self._logits + rows @ weights, axis=1)
            gradient = rows.T @ (np.exp(log_shares) - self._wanted) + penalty * weights
            value = -(log_shares * self._wanted).sum() + (penalty * weights**2).sum() / 2
            return float(value), (unit * gradient).ravel()

        start = (self._found / unit).ravel()
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=_SEARCH)
        self._found = unit * found.x.reshape(shape)
        kernel = self._directions.T @ self._found[~self._is_free] / self._scale
        return kernel, self._found[self._is_free].sum(0)


def _accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    return round(float(class_accuracies(y, logits).mean()), DECIMALS)


def _stands(before: np.ndarray, after: np.ndarray, y: np.ndarray) -> bool:
    """Whether so many more samples are righted than spoiled that it is hardly by chance.

    And no class pays for it, by the harmonic mean accuracy. As in McNemar's test (1947,
    Psychometrika 12:153), what both get right or wrong tells nothing.
    """
    right, now = before.argmax(1) == y, after.argmax(1) == y
    harmonic = [harmonic_mean_accuracy(class_accuracies(y, logits)) for logits in (before, after)]
    righted, spoiled = int((now & ~right).sum()), int((right & ~now).sum())
    beyond_chance = righted - spoiled > _DEVIATIONS * float(np.sqrt(righted + spoiled))
    return beyond_chance and harmonic[1] >= harmonic[0]

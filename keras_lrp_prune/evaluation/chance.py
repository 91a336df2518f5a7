"""Whether a classifier does better than guessing, before anything is decided by its accuracies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keras_lrp_prune.callers import outside
from keras_lrp_prune.display_names import printable
from keras_lrp_prune.evaluation.metrics import labels_and_scores

# The usual level of a test: one of twenty models that guess is taken for better than guessing.
_LEVEL = 0.05

# Of fewer samples of a class, all may be wrong by accident.
_ENOUGH = 5

USUAL_CAUSES = (
    "Usual causes: the samples are not preprocessed as those that the model was trained on "
    "(0..255, 0..1, -1..1, or the preprocess_input of its application); the classes are numbered "
    "in another order than the model's outputs; its outputs are not what they are taken for "
    "(without a softmax or sigmoid they are read as logits)."
)


class AtChanceWarning(UserWarning):
    """A model classifies samples no better than guessing would: all of them, or those of a class.

    Example:
    >>> import warnings
    >>> import keras_lrp_prune as klp
    >>> warnings.simplefilter("error", klp.AtChanceWarning)  # an error, before any work
    """


@dataclass(frozen=True)
class Guessing:
    """Compares a classifier with guessing: with its own answers, dealt to the samples at random.

    A model that always names the most frequent class does no better than that. Where each class
    has the same number of samples, guesses get `1 / n_classes` right, whatever the model prefers.

    Attributes:
        samples: Number of samples.
        right: How many of them the classifier has right.
        expected: Share that guesses would have right.
        likely: Probability that guesses have as many right, or more (binomial).
    """

    samples: int
    right: int
    expected: float
    likely: float

    @classmethod
    def of(cls, y: Any, outputs: Any) -> Self:
        """Compares a classifier's outputs with guesses.

        Args:
            y: True classes, as indices, shape `(n,)`, or one-hot, shape `(n, n_classes)`.
            outputs: Scores or probabilities, shape `(n, n_classes)`.

        Raises:
            ValueError: If the shapes do not fit, a score is not finite, or a class has no sample.

        Example:
            >>> Guessing.of([0, 0, 1, 1], [[1, 0], [1, 0], [0, 1], [0, 1]])
            Guessing(samples=4, right=4, expected=0.5, likely=0.0625)
        """
        from scipy.stats import binom  # slow to import

        labels, scores = labels_and_scores(y, outputs)
        n, n_classes = scores.shape
        named = scores.argmax(axis=1)
        shares = [np.bincount(found, minlength=n_classes) / n for found in (labels, named)]
        right, expected = int((labels == named).sum()), float(np.dot(*shares))
        return cls(n, right, expected, round(float(binom.sf(right - 1, n, expected)), 12))

    @property
    def at_chance(self) -> bool:
        """Whether it is not significantly better than guesses.

        False where the samples are too few to tell: where guesses would have all of them right in
        more than a twentieth of all cases.
        """
        return self.likely > _LEVEL >= self.expected**self.samples


def mistaken_classes(y: Any, outputs: Any) -> dict[int, int]:
    """Classes of which hardly a sample is classified correctly, and most are taken for one other.

    That happens if two classes are numbered in the wrong order.

    Args:
        y: True classes, as indices or one-hot.
        outputs: Scores or probabilities, shape `(n, n_classes)`.

    Returns:
        Class to the one that it is taken for.

    Example:
        >>> mistaken_classes([0] * 9 + [1] * 9, [[1, 0]] * 18)
        {1: 0}
    """
    labels, scores = labels_and_scores(y, outputs)
    named, n_classes = scores.argmax(axis=1), scores.shape[1]
    found = {}
    for label in range(n_classes):
        answers = np.bincount(named[labels == label], minlength=n_classes)
        n = answers.sum()
        if n >= _ENOUGH and answers[label] <= n / 10 and answers.max() > n / 2:
            found[label] = int(answers.argmax())
    return found


def warn_at_chance(
    y: Any,
    outputs: Any,
    advice: str,
    class_names: Sequence[str] | None = None,
    *,
    where: str = "the reference set",
) -> None:
    """Warns (`AtChanceWarning`) if a model classifies samples no better than guesses.

    It also warns if the samples of single classes are hardly ever classified correctly. The warning
    names the line outside this package that led here.

    Args:
        y: True classes, as indices or one-hot.
        outputs: Scores or probabilities, shape `(n, n_classes)`.
        advice: What that means, and what usually causes it.
        class_names: What the classes are called, if it is known.
        where: What the samples are called.

    Example:
        >>> warn_at_chance([0, 1] * 9, [[0.9, 0.1], [0.2, 0.8]] * 9, "Check the labels.")
    """
    found, mistaken = Guessing.of(y, outputs), mistaken_classes(y, outputs)
    if found.at_chance:
        what = (
            f"The accuracy on {where} is at chance: {found.right} of {found.samples} "
            f"samples are classified correctly ({found.right / found.samples:.1%}), and guesses "
            f"would get {found.expected:.1%}."
        )
    elif mistaken:
        names = dict(enumerate(class_names)) if class_names else {}
        pairs = [
            f"{names.get(label, label)} is taken for {names.get(other, other)}"
            for label, other in mistaken.items()
        ]
        what = (
            f"Samples of some classes are hardly ever classified correctly on {where}, "
            "which leaves next to nothing of the harmonic mean accuracy: "
            f"{printable(', '.join(pairs))}."
        )
    else:
        return
    warnings.warn(f"{what} {advice}", AtChanceWarning, stacklevel=outside())

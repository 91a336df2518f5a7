"""A warning where prunable layers are frozen while the model is trained."""

from __future__ import annotations

from keras_lrp_prune.examination.subject import Subject


def frozen_filters(subject: Subject) -> str:
    """A line that counts the prunable layers that are frozen; empty if there are none.

    Training cannot adapt them to the filters that go.

    Args:
        subject: The model that is trained, and its channel structure.
    """
    names = {name for group in subject.structure.groups for name in group.filters}
    frozen = {name for name in names if not subject.flat.layers[name].source.trainable_weights}
    if not frozen:
        return ""
    return (
        f"{len(frozen)} of {len(names)} layers whose filters can go are frozen, and cannot make up "
        "for what goes: use prune(), which refits them, and then finetune()."
    )

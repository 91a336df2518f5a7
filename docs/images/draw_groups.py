"""Draws docs/images/groups.png, the channel groups of a small model, and prints their table.

Run it from the root of the repository: python docs/images/draw_groups.py
"""

from pathlib import Path

import keras
from keras import layers

import keras_lrp_prune as klp


class Halve(layers.Layer):
    """A layer of one's own, without a rule: a barrier."""

    def call(self, x):
        """Halves."""
        return x / 2


def small_model() -> keras.Model:
    """A residual block, a concatenation, and a barrier."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.Conv2D(8, 1, activation="relu", name="squeeze")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Conv2D(16, 1, name="expand")(y)
    x = layers.Add(name="add")([x, y])
    wide = layers.Conv2D(24, 3, padding="same", name="wide")(x)
    narrow = Halve(name="halve")(layers.Conv2D(8, 1, name="narrow")(x))
    x = layers.Concatenate(name="concat")([wide, narrow])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(10, name="scores")(x), name="small")


def main() -> None:
    """Prints the table and draws the picture."""
    model = small_model()
    print(klp.explain(model))
    klp.plot_channel_groups(model, Path(__file__).with_name("groups.png"))


if __name__ == "__main__":
    main()

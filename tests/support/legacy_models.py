"""One model in either Keras generation."""

IMAGE = (12, 12, 3)


def backbone(kit):
    layers = kit.layers
    inputs = layers.Input(IMAGE)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(6.0, name="relu6")(layers.BatchNormalization(name="norm")(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="separable")(y)
    x = layers.Add(name="add")([x, y])
    return kit.Model(inputs, layers.MaxPooling2D(name="pool")(x), name="backbone")


def classifier(kit, head="softmax"):
    """The same model in either Keras generation: nested, residual, separable, with dropout."""
    layers = kit.layers
    top = kit.Sequential(
        [
            layers.Input((6, 6, 6)),
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dropout(0.25, name="drop"),
            layers.Dense(4, activation=head, name="classes"),
        ],
        name="top",
    )
    inputs = layers.Input(IMAGE, name="image")
    return kit.Model(inputs, top(backbone(kit)(inputs)), name="classifier")

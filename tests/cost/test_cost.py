import time

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers
from models import BUILDERS, analysed, images, nested, pruned, random_removal, shared, vgg

import keras_lrp_prune as klp
from keras_lrp_prune.cost import Cost, CostModel, file_size, latency
from keras_lrp_prune.graph.channels import selects


def counted(model):
    return CostModel(*analysed(model))()


def flops(*stack, shape=(8, 8, 3)):
    """FLOPs of a few layers, one behind the other."""
    return counted(keras.Sequential([layers.Input(shape), *stack])).flops


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("head", ["logits", "softmax"])
def test_count_without_building_equals_count_of_the_rebuilt_model(name, head):
    model = BUILDERS[name](head)
    graph, structure = analysed(model)
    cost = CostModel(graph, structure)
    assert cost.uncounted == ()
    assert cost().parameters == model.count_params()
    for seed, share in enumerate((0.1, 0.4, 0.9)):
        removed = random_removal(structure, share, seed)
        smaller = pruned(model, removed)
        assert cost(removed).parameters == smaller.count_params()
        assert cost(removed) == counted(smaller)
        assert cost(removed).flops < cost().flops
        gone = sum(selects(removed, units).sum() for units in structure.filter_units.values())
        assert cost(removed).filters == cost().filters - gone


@pytest.mark.parametrize("name", ["MobileNetV2", "DenseNet121"])
def test_applications(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    _, structure = analysed(model)
    cost = CostModel(*analysed(model))
    removed = random_removal(structure, 0.5)
    smaller = pruned(model, removed)
    assert cost().parameters == model.count_params()
    assert cost(removed) == counted(smaller)
    assert cost(removed).parameters == smaller.count_params()


def test_flat_and_nested_graphs_count_the_same():
    graph, structure = analysed(nested())
    assert CostModel(graph, structure)() == CostModel(graph.flat(), structure)()


def test_by_hand():
    # 16 x 16 x 3: three times a convolution with bias and ReLU, then pooling; two dense layers.
    convolutions = [(16, 3, 6), (8, 6, 8), (4, 8, 10)]
    expected = sum(
        side**2 * filters * (2 * 9 * read + 2) + (side // 2) ** 2 * filters * 4
        for side, read, filters in convolutions
    )
    expected += 12 * (2 * 40 + 2) + 4 * (2 * 12 + 1)
    parameters = sum(filters * (9 * read + 1) for _, read, filters in convolutions)
    parameters += 12 * (40 + 1) + 4 * (12 + 1)
    assert counted(vgg()) == Cost(
        filters=6 + 8 + 10 + 12 + 4, parameters=parameters, flops=expected
    )


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(5, 3, use_bias=False), 2 * 36 * 9 * 3 * 5),
        (layers.Conv2D(5, 3, strides=2, padding="same"), 16 * 5 * (2 * 9 * 3 + 1)),
        (layers.Conv2D(6, 1, groups=3, use_bias=False), 2 * 64 * 1 * 6),
        (layers.Conv2D(6, 3, data_format="channels_first"), 6 * 6 * (2 * 9 * 8 + 1)),
        (layers.Conv2DTranspose(5, 2, strides=2, use_bias=False), 2 * 64 * 4 * 3 * 5),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), 2 * 36 * 9 * 6),
        (
            layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu"),
            36 * (2 * 9 * 6 + 2 * 6 * 5 + 5 + 5),
        ),
        (layers.Dense(5), 64 * 5 * (2 * 3 + 1)),
        (layers.BatchNormalization(), 2 * 64 * 3),
        (layers.ReLU(), 64 * 3),
        (layers.MaxPooling2D(3, padding="same", strides=1), 64 * 3 * 9),
        (layers.AveragePooling2D(2), 16 * 3 * 4),
        (layers.GlobalAveragePooling2D(), 64 * 3),
        (layers.Flatten(), 0),
        (layers.Dropout(0.5), 0),
        (layers.ZeroPadding2D(1), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.Layer) else "",
)
def test_layer_by_hand(layer, expected):
    assert flops(layer) == expected


def test_one_dimension_by_hand():
    stack = (layers.Conv1D(4, 3, use_bias=False), layers.MaxPooling1D(2))
    assert flops(*stack, shape=(10, 3)) == 2 * 8 * 3 * 3 * 4 + 4 * 4 * 2


def test_merges_and_operations_count_each_further_tensor():
    inputs = layers.Input((4, 4, 3))
    model = keras.Model(inputs, layers.Add()([inputs, inputs, inputs]) + 1.0)
    assert counted(model).flops == 2 * 48 + 48


def test_each_call_of_a_shared_layer_costs_flops_but_not_parameters():
    model = shared()
    cost = counted(model)
    assert cost.parameters == model.count_params()
    calls = 2 * 16 * 16 * 6 * (2 * 9 * 5 + 1)
    norm_and_relu = 2 * 16 * 16 * 6 * 3
    before = 2 * 16 * 16 * 5 * (2 * 9 * 3 + 3)
    after = 16 * 16 * 12 + 4 * (2 * 12 + 1)
    assert cost.flops == before + calls + norm_and_relu + after


def test_unknown_layers_are_named():
    model = keras.Sequential(
        [
            layers.Input((8, 3)),
            layers.EinsumDense("abc,cd->abd", (8, 4), name="sums"),
            layers.Dense(2),
        ]
    )
    cost = CostModel(*analysed(model))
    assert cost.uncounted == ("sums",)
    assert cost().parameters == model.count_params()
    assert cost().flops == 8 * 2 * (2 * 4 + 1)


def test_open_sizes_are_refused():
    model = keras.Sequential(
        [layers.Input((None, None, 3)), layers.Conv2D(4, 3, name="first"), layers.ReLU()]
    )
    with pytest.raises(ValueError, match=r"layer 'first' works on .*\(None, None, None, 4\)"):
        CostModel(*analysed(model))


def test_sizes_that_a_layer_leaves_open_matter_to_budgets_for_flops_alone():
    model = keras.Sequential(
        [
            layers.Input((6, 6, 3)),
            layers.Conv2D(8, 3, name="conv"),
            layers.Conv2D(8, 3, name="read"),
            layers.Reshape((4, 8)),
            layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), name="sums"),
            layers.GlobalAveragePooling1D(name="mean"),
            layers.Dense(2, name="scores"),
        ]
    )
    reference = (images(model), [0, 1] * (len(images(model)) // 2))
    options = {"criterion": "l1", "recovery": None, "verbose": 0}
    result = klp.prune(model, reference, 0.3, **options)
    assert set(result.uncounted) == {"sums", "mean"}
    assert result.rate == pytest.approx(0.3, abs=0.1)
    assert klp.prune(model, reference, budget={"params": 0.9}, **options).rate > 0
    for name in ("flops", "energy"):
        with pytest.raises(ValueError, match=r"'mean' works on .*Layer 'sums' .EinsumDense. leave"):
            klp.prune(model, reference, budget={name: 0.5}, **options)


@pytest.mark.parametrize("kind", [keras, tf_keras], ids=["keras 3", "legacy"])
def test_file_size_is_that_of_the_model_alone(kind):
    def model():
        return kind.Sequential([kind.layers.Input((4,)), kind.layers.Dense(500)])

    trained = model()
    trained.compile("adam", "mse")
    trained.fit(np.ones((2, 4)), np.ones((2, 500)), verbose=0)
    assert file_size(trained) == pytest.approx(file_size(model()), abs=64)
    assert trained.optimizer is not None, "the model itself is as it was"


def test_file_size_and_latency():
    model = vgg()
    assert file_size(model) > 4 * model.count_params()
    assert latency(model, images(model), repeats=3) > 0
    for x, repeats in ((images(model)[:0], 3), (images(model), 0)):
        with pytest.raises(ValueError, match="at least one"):
            latency(model, x, repeats)


def test_counting_is_quick():
    cost = CostModel(*analysed(BUILDERS["densenet"]()))
    start = time.perf_counter()
    for _ in range(100):
        cost(np.zeros(68, bool))
    assert time.perf_counter() - start < 1

"""Baselines of this package beside their authors' code: the same network, images and steps.

    python examples/benchmarks/peers.py --data DATA --pxp FOLDER --python PYTHON

Torch-Pruning's Taylor without its normaliser beside `taylor.group`, and Pruning by Explaining
(PXP), scored once and at each step, beside `pxp` and `pxp-iterative`, with all weights frozen:
pruned in steps of 5 % of all filters, mean of the class accuracies on held-out images. DATA is that
of `control.py`; `plain-digits` needs none. FOLDER has PXP's repository
(erfanhatefi/Pruning-by-eXplaining-in-PyTorch; 7d01b24 was used), and PYTHON is an interpreter with

    pip install torch torchvision torch-pruning==1.6.1 zennit==0.5.1 pydevd astor astunparse

of its own: TensorFlow and PyTorch do not bear each other in one process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
from control import FINE, TASKS, Draw, Triple
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.graph.plain import to_plain
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.wire import receive, send

# Chains of layers, which all peers carry over.
PLAIN = [name for name in TASKS if name.startswith("vgg16") or name == "plain-digits"]
PEERS = ("taylor.group", "pxp", "pxp-iterative")
Curves = dict[str, np.ndarray]


def theirs(triple: Triple, options: argparse.Namespace) -> tuple[Curves, dict[str, str]]:
    """The curve of each peer, and the versions of what computed it."""
    model, (x, y), (x_test, y_test) = triple
    plain, arrays = to_plain(strip_softmax(canonize(read_model(model).flat())))
    samples = {"x": x, "y": y.astype(np.int64), "x_test": x_test, "y_test": y_test.astype(np.int64)}
    asked = BytesIO()
    message = {
        "graph": plain,
        "rates": FINE,
        "peers": options.peers,
        "threads": len(os.sched_getaffinity(0)),
    }
    send(asked, message, {**arrays, **samples})
    here = Path(__file__).parent
    paths = [str(here.parents[1]), str(here), str(options.pxp.resolve())]
    done = subprocess.run(
        [options.python, here / "peers_torch.py"],
        input=asked.getvalue(),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=True,
    )
    told, curves = receive(BytesIO(done.stdout))
    return curves, told["versions"]


def ours(triple: Triple, options: argparse.Namespace) -> Curves:
    """The curve of each method of this package; PXP prunes convolutions alone."""
    dense = [layer.name for layer in triple[0].layers if isinstance(layer, layers.Dense)]
    return {
        name: klp.accuracy_curve(
            *triple, name, FINE, engine="native", protect=dense if name.startswith("pxp") else ()
        ).mean()
        for name in options.peers
    }


def area(curve: np.ndarray) -> float:
    """Under a curve, in percent."""
    return 100 * float(np.trapezoid(curve, FINE)) / (FINE[-1] - FINE[0])


def main() -> None:
    """Runs all, and prints a row for each task, seed and peer."""
    options = parse_arguments()
    print("| task | seed | | area, ours | area, theirs | largest difference |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for task in options.tasks:
        for seed in range(options.seeds):
            triple = TASKS[task](Draw(options.data, options.per_class, seed, selection=False))
            (their_curves, versions), our_curves = theirs(triple, options), ours(triple, options)
            for name in options.peers:
                mine, other = our_curves[name], their_curves[name]
                largest = 100 * np.abs(mine - other).max()
                areas = f"{area(mine):.1f} | {area(other):.1f}"
                print(f"| {task} | {seed} | `{name}` | {areas} | {largest:.1f} |", flush=True)
    print("\n" + ", ".join(f"{name} {number}" for name, number in versions.items()))


def parse_arguments() -> argparse.Namespace:
    """What is on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="as that of control.py")
    parser.add_argument("--pxp", type=Path, required=True, help="PXP's repository")
    parser.add_argument("--python", required=True, help="an interpreter with PyTorch")
    parser.add_argument("--tasks", nargs="+", choices=PLAIN, default=["vgg16-5", "vgg16-3"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    return parser.parse_args()


if __name__ == "__main__":
    main()

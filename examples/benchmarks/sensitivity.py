"""Where accuracy goes: what each channel group of a network costs, after recovery.

    python examples/benchmarks/sensitivity.py --data DATA --out runs/

DATA is that of `control.py`, and so are the tasks. What was measured of a task is kept in `--out`;
the same command goes on from there, and writes docs/sensitivity.md and its picture at the end.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from control import TASKS, Draw

import keras_lrp_prune as klp
from keras_lrp_prune.files import new_file
from keras_lrp_prune.report import plot_losses

DOCS = Path(__file__).parents[2] / "docs"
SHARE, PER_CLASS, SEED = 0.5, 20, 0
NAMED = 3
PICTURED = "mobilenet-flowers"
NETWORKS: Mapping[str, str] = {
    "vgg16-5": "VGG16, 32x32",
    PICTURED: "MobileNet 0.75, 128x128",
    "squeeze-digits": "fire modules, concatenated",
    "inverted-digits": "inverted residuals, ReLU6",
    "residual-digits": "residual sums",
    "excited-digits": "squeeze and excite",
}

TEXT = Template("""\
# Where accuracy goes

`klp.sensitivity` takes the same share of its filters from each channel group, one group at a time,
refits what is left as `prune` does, and measures the accuracies on the reference set:

```python
import keras_lrp_prune as klp
from keras_lrp_prune.demo import digits, train_classifier

train, reference, held_out = digits(seed=0)
model = train_classifier(train, seed=0)
found = klp.sensitivity(model, reference, share=0.5)
print(found)  # a table, the costliest group first
found.plot("groups.png")  # from the input to the output of the model
costliest = max(found.groups, key=found.loss)
result = klp.prune(model, reference, 0.3, protect=[costliest.group])
smaller = klp.delete_channels(model, costliest.indices)  # without those filters, not refitted
```

`prune` weighs groups by itself, by what each of their filters adds that others cannot make up for:
nothing has to be protected for it. The figures tell where a budget hurts, and where a network of
your own could be narrower. It costs a scoring pass, and for each group a forward pass of the
network without those filters, which is refitted on the way unless `recovery=None`.

## By architecture

Half of the filters of one group at a time, ${per_class} images a class, least squares; points of
the soft harmonic mean (of the probabilities of the right classes) on the reference set, and the
share of the network's FLOPs that goes with them.

![${pictured}: what each group costs](images/sensitivity.png)

${rows}

Made by `examples/benchmarks/sensitivity.py`; Python ${python}, TensorFlow ${tensorflow}, Keras
${keras}.
""")


def main() -> None:
    options = parse_arguments()
    found = {task: measured(task, options) for task in NETWORKS}
    text = TEXT.substitute(
        per_class=PER_CLASS,
        pictured=NETWORKS[PICTURED],
        rows=table(found),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    (DOCS / "sensitivity.md").write_text(text)
    losses = {one["group"]: loss(found[PICTURED], one) for one in found[PICTURED]["groups"]}
    plot_losses(
        losses,
        DOCS / "images" / "sensitivity.png",
        title=f"{NETWORKS[PICTURED]}: each group without half of its filters, refitted",
        xlabel="Soft harmonic mean accuracy lost (points)",
    )


def measured(task: str, options: argparse.Namespace) -> Mapping[str, Any]:
    """What each group of a task's network costs, as `Sensitivity.to_dict` has it."""
    path = options.out / f"sensitivity_{task}.json"
    if not path.exists():
        model, reference, _ = TASKS[task](Draw(options.data, PER_CLASS, SEED, selection=False))
        found = klp.sensitivity(model, reference, SHARE)
        print(found)
        with new_file(path) as file:
            file.write(json.dumps(found.to_dict()).encode())
    told: Mapping[str, Any] = json.loads(path.read_text())
    return told


def loss(found: Mapping[str, Any], group: Mapping[str, Any]) -> float:
    """Accuracy that a group costs, as a share."""
    return float(found["soft_whole"] - group["soft_harmonic_mean"])


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each network: its costliest groups, and what the cheaper half of them costs."""
    heads = ("network", "groups", "the costliest", "the cheaper half of the groups, each")
    rows = [heads, ("---", "---:", "---", "---")]
    for task, one in found.items():
        groups = sorted(one["groups"], key=lambda group: -loss(one, group))
        costliest = "; ".join(
            f"`{group['group']}` {100 * loss(one, group):.1f} points for {group['flops']:.1%}"
            for group in groups[:NAMED]
        )
        rows.append((NETWORKS[task], str(len(groups)), costliest, cheaper(one, groups)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cheaper(found: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> str:
    """What the cheaper half of the groups costs."""
    half = groups[len(groups) // 2 :]
    most = 100 * max(loss(found, group) for group in half)
    flops = sum(group["flops"] for group in half)
    return f"at most {most:.1f} points; together {flops:.0%} of the FLOPs"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="see control.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was measured")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Draws docs/images/curve.png: the demo's model pruned to several rates, on held-out digits.

Run it from the root of the repository: python docs/images/draw_curve.py
"""

from pathlib import Path

import keras_lrp_prune as klp
from keras_lrp_prune.demo import digits, train_classifier
from keras_lrp_prune.report import plot_history

SEED = 0
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def main() -> None:
    """Prunes by relevance and at random, prints the figures and draws the curves."""
    train, reference, held_out = digits(SEED)
    model = train_classifier(train, SEED)

    def records(criterion: str | None) -> list[dict]:
        found = []
        for rate in RATES:
            result = klp.prune(
                model,
                reference,
                rate,
                validation=held_out,
                criterion=criterion,
                recovery=None,
                seed=SEED,
                verbose=0,
            )
            reports = [(0.0, "before")] * (not found) + [(result.rate, "after")]
            found += [
                {
                    "rate": reached,
                    "harmonic_mean": result.validation[when]["harmonic_mean"],
                    "class_accuracies": result.validation[when]["recall"],
                    "accepted": True,
                }
                for reached, when in reports
            ]
        for record in found:
            accuracies = record["class_accuracies"]
            print(
                f"{criterion or 'default'}: rate {record['rate']:.3f}, harmonic mean "
                f"{record['harmonic_mean']:.4f}, worst class {min(accuracies):.3f}"
            )
        return found

    relevance, chance = records(None), records("random")
    figure = plot_history(
        relevance,
        title="Accuracy on held-out digits",
        class_names=[f"digit {number}" for number in range(10)],
    )
    axes = figure.axes[0]
    axes.plot(
        [100 * record["rate"] for record in chance],
        [100 * record["harmonic_mean"] for record in chance],
        color="#777777",
        linestyle=(0, (1, 1.5)),
        linewidth=2,
        label="harmonic mean, random order",
    )
    axes.set_ylim(0, 102)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    figure.savefig(Path(__file__).with_name("curve.png"), dpi=110)


if __name__ == "__main__":
    main()

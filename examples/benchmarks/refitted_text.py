"""The sentences around the tables of the page that `refitted_page.py` writes."""

from string import Template

TEXT = Template("""\
# What the default keeps

Written by `python examples/benchmarks/control.py --data DATA --out runs/ --page refitted` from its
runs, those of `--protocols least-squares`. Layers are refitted to 20 reference images a class
(`recovery="least_squares"`), as `prune` does it by default, and the default criterion is
[`lrp.unique`](how-it-works.md#unique-contributions), refitted and scored anew after each 10 % of
the filters. [With all weights frozen](control.md), methods are further apart.

- Tasks are those of [the comparison with all weights frozen](control.md). For each seed a reference
  set is drawn anew from training images; methods decide on it alone, and every figure was measured
  on test images that no decision saw.
- Figures are *shares of the unpruned network* on the same images, in percent, mean ± standard error
  over the seeds: of its mean class accuracy under the curve (*AUC*, over pruning rates from 0 to
  0.95), of its harmonic mean (*harmonic*), and of its mean class accuracy at some rates.
- The runs are of a version in which refits and scores counted mirror images at each step, which
  only the last refit does now: [no difference that could be told](#what-was-tried), for half of the
  passes.
- Variants were chosen on training images outside the reference set, with other seeds, of
  `mobilenet-flowers` and the small networks on digits.

![Accuracy over the pruning rate, MobileNet on five kinds of flowers](images/refitted.png)

$kept

## Beside other criteria

Criteria with `-refitted` in their names are published ones, for which what is left is refitted and
scored anew every 10 %, as for the default: [`obs`](how-it-works.md#reconstruction) is the
second-order criterion of ZipLM and SlimGPT for whole channels, `taylor.group` that of
Torch-Pruning without normaliser. Gains are relative, over the one with the largest area; a gain
below its standard error says nothing.

$over

## Task by task

*Passes*: what the decisions took, in forward passes of the unpruned model over the reference set.

$each
## What was tried

On training images outside the reference sets, and not taken:

- What [comes back](how-it-works.md#unique-contributions) stays whatever the accuracy, over two
  reference sets each: inverted-digits 84.6 (85.9 where accuracy decides, 84.9 where nothing comes
  back), squeeze-digits 93.5 (93.5, 93.4), residual-digits 90.4 (91.2, 90.4). With all weights
  frozen, one set, by the scores of the unpruned network: inverted-digits 63.0 (65.9 where nothing
  comes back). All ranked anew, what is gone by its activations of before and gradients of now, as
  two more trials: squeeze-digits 75.9 (75.9).
- `obs` as a third way at each step, two reference sets each: inverted-digits 87.5 (85.9 without),
  squeeze-digits 93.8 (93.5), residual-digits 90.2 (91.2), for half as much time again: better on
  one, worse on another, and not measured on MobileNet.
- Mirror images while units are chosen, in refits and scores: twice the passes, and no better. AUC /
  harmonic with them and without, one reference set each: mobilenet-flowers 69.4 / 68.7 and
  69.5 / 68.5 (20 images a class), squeeze-digits 91.9 / 87.0 and 94.0 / 93.1. In the last refit,
  which makes the result, they are worth a point where images are few: mobilenet-flowers, 10 a
  class, 67.8 / 66.2 everywhere, 68.1 / 66.2 in the last refit alone, 67.0 / 64.9 nowhere.
- Groups weighed by [what each costs](sensitivity.md): at each step, what the refitted network loses
  where one group alone loses the filters of the step, over what their contributions add up to. Two
  reference sets each, AUC / harmonic: inverted-digits 86.4 / 82.1 (85.9 / 80.3 without),
  residual-digits 90.0 / 83.3 (91.2 / 85.4), for as many more refits a step as there are groups.
- Steps of 5 %; gradients of the unpruned network in the place of those of now; class weights by
  cross-fitted heads; gradients that follow when a filter goes (93.9 of the unpruned network where
  it is 94.4 otherwise); cross terms between filters that go together (93.4 and 93.2); three ways a
  step, judged by cross-fitted heads (93.0).

## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")

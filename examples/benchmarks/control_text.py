"""The sentences around the tables of the pages that `control_page.py` writes."""

from string import Template

FROZEN = Template("""\
# Which control keeps accuracy longest

Written by `python examples/benchmarks/control.py --out runs/ --page frozen` from its
runs. With all weights frozen, so that the choice of filters alone counts; where layers are
[refitted](refitted.md), as by default, methods are nearer to each other.

- A *task* is a network and some classes. For each seed a reference set of 20 images a class is
  drawn anew from training images; methods decide on it alone, and every figure was measured on test
  images that no decision saw. Variants were chosen on training images outside the reference set,
  with other seeds, of `vgg16-5` and `mobilenet-flowers` (at 96 x 96), trials on the tasks in their
  table below. The exception: that contributions enter the election as they are, and not relative to
  their group, was decided with held-out digits in view too, on other networks; so `residual-digits`
  is not untouched by the choice.
- Figures are *shares of the unpruned network* on the same images, in percent, mean ± standard error
  over the seeds: of its mean class accuracy under the curve (*AUC*, over pruning rates from 0 to
  0.95), of its harmonic mean (*harmonic*), and of its mean class accuracy at some rates.

![Accuracy over the pruning rate, VGG16 on five classes](images/control.png)

`vgg16-N` is VGG16 with CIFAR-10 weights on N classes with its own head; `mobilenet-flowers`
MobileNet 0.75 with ImageNet weights on five flowers, 128 x 128, head fitted on the reference set;
`residual-digits` a small residual network on scikit-learn's digits. The other networks on digits
are small ones of the kinds of LeNet (`plain`), SqueezeNet (`squeeze`), MobileNetV2 (`inverted`),
EfficientNet (`excited`) and DenseNet (`dense`); no variant was chosen on them.

## What the default keeps

$kept

## Beside other methods

The methods are those of [the comparison](comparison.md#methods). Gains are relative, over the one
with the largest area; a gain below its standard error says nothing.

$over

Peers in their own code, on the same tasks (mean of six runs, areas in percent): the best are
Torch-Pruning's Taylor without its normaliser, 54.8, and PXP, scored anew after each step, 52.8,
where the default reaches 64.4. Of the harmonic mean the best peer leaves 39.9, the default 56.2.
`taylor.group` and `pxp-iterative` here are those two.

## What each part adds

The default [without a part of it](how-it-works.md): `no-trials` takes the election by the scores of
now (`trials=False, rate="equal"`), `no-balance` lets the lowest-scored filters go (`pool=0`),
`no-order` weighs classes alike (`order="uniform"`), `log-odds-alone` does all three. In points of
the unpruned accuracy, mean ± standard error over all runs.

$parts

## Task by task

*Passes*: what the decisions took, in forward passes of the unpruned model over the reference set.

$each
## What was tried

On validation images of `vgg16-5`, 10 per class, one reference set (seed 100), all weights frozen,
areas up to 90 %. With one reference set, differences of one or two points say nothing.

| variant | AUC | harmonic |
| --- | ---: | ---: |
| iterative LRP (`lrp.sequential_preset_a`) | 47.7 | 25.3 |
| Taylor | 55.2 | 44.6 |
| trials: each group offers its lowest 20 %, the cheapest one goes; preset A | 45.5 | 25.4 |
| the same trials with Taylor (280 passes) | 61.0 | 48.4 |
| lowest mean square contribution to the log odds | 59.3 | 39.5 |
| lowest contribution to the margin to the next class | 56.6 | 35.5 |
| sets whose contributions cancel out | 66.6 | 51.8 |
| and class weights (the default without trials, in equal steps) | 68.0 | 58.0 |
| contributions by preset A, z+ or gamma instead of the z-rule | 36.7 to 45.3 | |
| trials among five such sets (90 passes) | 66.8 | 52.4 |
| a pool of 25 % | 67.0 | 54.2 |
| steps of 2.5 % | 66.5 | 50.3 |
| carrying the error of earlier steps along | 63.0 | |
| a set chosen on the log loss itself | 60.2 | |

What else was measured on validation data:

- The rules of LRP by depth (`pxp`, 20 images per class): epsilon everywhere 49.8; z+, gamma or
  alpha-beta in the first, middle or last third 42.7 to 50.0. Relevance as it is instead of shares
  of a group: 48.0. `lrp-iterative`, which keeps the sign of relevance, with preset A 40.4 (as it
  is: 39.8), z+ 38.5, gamma 36.8, epsilon (as it is) 23.6, preset B 21.9.
- Taylor with its importances as they are, the same task: 21.9; relative to their group, as `taylor`
  has them, 52.7.
- Heads that did not see the sample steering `mobilenet-flowers` at 96 x 96 (three reference sets,
  areas up to 70 %): 61.8, 53.5 and 55.1, against 58.3, 54.8 and 57.3 by the model as it is.
- Carrying the error along gained 5 points on MobileNet and lost 5 on VGG16.

[Trials](how-it-works.md#trials) in equal steps, the model as it is judging; AUC up to 95 %, 10
images per class (digits: 20, two reference sets), passes of `vgg16-3`:

| variant | `vgg16-5` | `vgg16-3` | `vgg16-2` | `mobilenet-flowers` | digits | passes |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| none, adaptive steps | 64.8 | 75.1 | 70.7 | | | 58 |
| none | 65.2 | 73.1 | | 46.9 | 60.8 | 45 |
| three: now, before and their mean, with an election | 64.6 | 72.2 | | | 65.6 | 103 |
| four: now and before, with an election and without it | 64.4 | 81.5 | 72.6 | 49.5 | 63.5 | 128 |
| six: now, before and their mean, with one and without | 66.9 | 83.2 | | 50.3 | 65.6 | 171 |
| nine: these, and elections with a pool of 10 % | 66.9 | 83.2 | 72.3 | | 64.6 | 222 |
| six with pools of 30 and 15 % | 65.2 | 74.8 | | | 66.2 | 154 |

Which six, on training images outside the reference sets, 20 images per class, two reference sets
(`mobilenet-flowers` and VGG16: one), AUC; harmonic, in the mean of the five small networks: 56.7 by
the six above (*mean*), 58.3 by those of now (*squares*):

- *mean*: scores now, before and their mean, with an election and without;
- *squares*, the default: these with an election, scores now without one, and the mean squares of
  contributions, not relative to their group, with one and without;
- *before*: squares of the unpruned network with an election, in the place of the mean;
- *four*: scores and squares now, with an election and without;
- *taylor.group*: its ranking in the place of the squares, for another backward pass;
- *seventh*: *mean*, and `taylor.group` without an election.

| | mean | squares | before | four | taylor.group | seventh |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| dense-digits | 55.0 | 58.8 | 58.4 | 54.0 | 57.6 | 56.0 |
| excited-digits | 69.2 | 70.2 | 69.2 | 68.8 | 70.9 | 70.0 |
| inverted-digits | 63.6 | 64.4 | 65.0 | 64.8 | 63.8 | 63.6 |
| residual-digits | 64.2 | 65.6 | 66.1 | 61.8 | 68.2 | 61.8 |
| squeeze-digits | 78.2 | 79.0 | | 78.0 | 79.2 | 78.9 |
| mobilenet-flowers | 49.8 | 52.9 | | | | |
| vgg16-5 | 67.9 | 67.9 | | | | |
| vgg16-3 | 80.9 | 80.4 | | | | |

With a [budget](profile.md#budgets), the proposals of a step save different amounts. To judge them
by what each loses for what it saves, or to cut all to the same saving, is better on some networks
and worse on others than to judge them as they are. Accuracy on digits with 30 % of the FLOPs left,
networks much like those above, four reference sets (`inverted`: three):

| judged | `residual` | `squeeze` | `inverted` |
| --- | ---: | ---: | ---: |
| as they are | 63.2 | 81.4 | 56.7 |
| by loss for saving | 65.0 | 83.7 | 39.4 |
| cut to the same saving | 51.5 | 83.3 | 53.7 |
| no trials | 36.7 | 83.9 | 35.1 |

## Limits

- Steps that follow the accuracies (`adaptive-rate`) cost twice the passes and add nothing to the
  AUC, with trials or without. (Curves are measured every 5 %, so that steps can become smaller than
  that, but not larger.) They are there for training, where what is lost can be undone.
- Trials and election look one step ahead. Beyond half of the filters, what several steps did to
  the log odds is no longer a small change of the network, and accuracy falls as it does for
  others, later.
- The sign of relevance, which `lrp-iterative` keeps, misleads it at once on `excited-digits` and
  `inverted-digits`, so that gains over it say little there; `pxp`, which takes magnitudes, is the
  baseline to look at.
- Networks with few filters to spare, such as MobileNet, lose whole classes at 40 to 50 % with all
  weights frozen, whatever the method.
- Where two classes are left the log odds are one number for each image, and there is less to win.

## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")

REFITTED = Template("""\
# What the default keeps

Written by `python examples/benchmarks/control.py --out runs/ --page refitted` from its
runs, those of `--protocols default`. Everything is as `prune` does it by default, with 20 reference
images a class: the criterion is [`lrp.unique`](how-it-works.md#unique-contributions), what is left
is refitted and scored anew after each 10 % of the filters, and in the end the head is [corrected
towards the labels](how-it-works.md#recovery-without-training) where that stands up to samples that
it did not see. [With all weights frozen](control.md), methods are further apart.

- Tasks are those of [the comparison with all weights frozen](control.md). For each seed a reference
  set is drawn anew from training images; methods decide on it alone, and every figure was measured
  on test images that no decision saw.
- Figures are *shares of the unpruned network* on the same images, in percent, mean ± standard error
  over the seeds: of its mean class accuracy under the curve (*AUC*, over pruning rates from 0 to
  0.95), of its harmonic mean (*harmonic*), and of its mean class accuracy at some rates.
- Variants were chosen on training images outside the reference set, with other seeds, of
  `mobilenet-flowers`, `vgg16-5` and the small networks on digits. The exception: that a head which
  was fitted on the reference set is not fitted anew was first seen on one test set of
  `mobilenet-flowers`, and then found on training images of digits.

![Accuracy over the pruning rate, MobileNet on five kinds of flowers](images/refitted.png)

$kept

## Beside other criteria

`obs-refitted` is [`obs`](how-it-works.md#reconstruction), the second-order criterion of ZipLM and
SlimGPT for whole channels: what is left is refitted and scored anew every 10 %, and the head
corrected, as for the default. Gains are relative; a gain below its standard error says nothing.

$over

## What each part adds

The default tries two rankings at each step, what it takes by the one or the other, refitted, and
keeps the better one by the accuracies. `lrp.unique-refitted` has unique contributions alone,
`lrp.log_odds-refitted` plain ones alone; `log-odds-aware` is the default for frozen weights, which
does not see what a refit will mend, and refitted once, at the rate that is measured. In points of
the unpruned accuracy, mean ± standard error over all runs.

$parts

## Task by task

*Passes*: what the decisions took, in forward passes of the unpruned model over the reference set.

$each
## What was tried

On training images outside the reference sets, and not taken; AUC and harmonic mean as above, where
nothing else is said:

- Refits by more windows while units are chosen. `vgg16-5`, two reference sets: 96.3 / 95.8 by 1e10
  multiplications a layer, 96.4 / 96.1 by 3e9, 97.2 / 97.0 by 1e9 (the default), 97.3 / 97.1 by 3e8,
  which loses on residual-digits (91.5 / 89.5, by 1e10 91.9 / 90.3). `vgg16-3`, one set: 98.6 by
  3e9, 98.7 by 1e9. `prune` takes a third less CPU time by 1e9 than by 1e10.
- Unique contributions alone, so that nothing is tried and nothing comes back: 89.2 instead of 89.9
  percent of accuracy under the curve, in the mean of eleven runs on four of the small networks, for
  half of the refits. With class weights: 89.3. Both ways in steps of 5 %: 89.8. Which way
  is better differs from network to network (MobileNet: nearly always the election up to half of
  the filters; small networks: mostly one by one), so that neither can go. To try both at every
  second step alone lost a point on `mobilenet-flowers` (68.3 for 69.4 percent of accuracy).
- An election among those with the lowest squares of contributions as they are, instead of relative
  to their group. AUC in percent of accuracy, two reference sets (mobilenet-flowers: one):
  dense-digits 92.4 (91.4 relative to the group), excited-digits 90.6 (89.4), inverted-digits 86.8
  (86.2), residual-digits 92.3 (91.4), squeeze-digits 93.8 (93.8), mobilenet-flowers 69.6 (69.4).
  But with a [budget](profile.md#budgets) of FLOPs, what went no longer had more of them than what
  went for a budget of parameters; and of eleven tasks held out, AUC in percent of unpruned, it kept
  94.3 (94.4).
- A score that adds what residuals do without letting it cancel over positions: 68 to 77 percent of
  accuracy where the default has 82 to 89.
- A head that is fitted anew where it was fitted on the reference set, instead of corrected: up to
  16 points worse. The strength of the correction chosen by log loss instead of accuracy: worse on
  VGG16, the head of which is over-confident.
- What [comes back](how-it-works.md#unique-contributions) stays whatever the accuracy, over two
  reference sets each, AUC in percent of accuracy here and below: inverted-digits 84.6 (85.9 where
  accuracy decides, 84.9 where nothing comes back), squeeze-digits 93.5 (93.5, 93.4),
  residual-digits 90.4 (91.2, 90.4). With all weights frozen, one set, by the scores of the unpruned
  network: inverted-digits 63.0 (65.9 where nothing comes back). All ranked anew, what is gone by
  its activations of before and gradients of now, as two more trials: squeeze-digits 75.9 (75.9).
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
- Gradients of the unpruned network in the place of those of now; class weights by
  cross-fitted heads; gradients that follow when a filter goes (93.9 of the unpruned network where
  it is 94.4 otherwise); cross terms between filters that go together (93.4 and 93.2); three ways a
  step, judged by cross-fitted heads (93.0).

## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")

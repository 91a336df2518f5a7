"""The sentences around the tables of the pages that `control_page.py` writes."""

from string import Template

FROZEN = Template("""\
# Which control keeps accuracy longest

Written by `python examples/benchmarks/control.py --data DATA --out runs/ --page frozen` from its
runs. With all weights frozen; [with recovery](recovery.md) methods are nearer to each other.

- A *task* is a network and some classes. For each seed a reference set is drawn anew from training
  images; methods decide on it alone, and every figure was measured on test images that no decision
  saw. Variants were chosen on training images outside the reference set, with other seeds, of
  `vgg16-5` and `mobilenet-flowers` (at 96 x 96), trials on the tasks in their table below. The
  exception: that contributions enter the election as they are, and not relative to their group,
  was decided with held-out digits in view too, on other networks; so `residual-digits` is not
  untouched by the choice.
- *AUC* is the area under the mean class accuracy over the pruning rate, from 0 to 0.95, divided by
  that span; *harmonic* and *worst* are the areas under the harmonic mean and the lowest of the
  class accuracies; *at 30 %* and so on the mean class accuracy there. All in percent: mean ±
  standard error over the seeds.
- *Passes* are forward-equivalents: what the decisions took, in forward passes of the unpruned
  model over the reference set.
- *Gain*: AUC and harmonic AUC (means over the seeds) against those of `$baseline` with the same
  seeds. *Over the best LRP*: AUC against that of the best LRP baseline that was measured there.

![Mean class accuracy over the pruning rate, VGG16 on five classes](images/control.png)

`vgg16-N` is VGG16 with CIFAR-10 weights on N classes with its own head; `mobilenet-flowers`
MobileNet 0.75 with ImageNet weights on five flowers, 128 x 128, head fitted on the reference set;
`residual-digits` a small residual network on scikit-learn's digits. The other networks on digits
are small ones of the kinds of LeNet (`plain`), SqueezeNet (`squeeze`), MobileNetV2 (`inverted`),
EfficientNet (`excited`) and DenseNet (`dense`); no variant was chosen on them.

The methods are those of [the comparison](comparison.md#methods). Others leave out [a part of
`accuracy-aware`](how-it-works.md): `no-trials` takes the election by the scores of now
(`trials=False, rate="equal"`), `no-balance` lets the lowest-scored filters go (`pool=0`),
`no-order` weighs classes alike (`order="uniform"`), `log-odds-alone` does all three.
`adaptive-rate` lets the step follow the accuracies, `adaptive-rate-no-trials` does so without
trials, and `preset-a-aware` scores by `lrp.sequential_preset_a`.

Peers in their own code, on the same tasks, all weights frozen (mean of six runs, areas in percent):
the best are Torch-Pruning's Taylor without its normaliser, 54.8, and PXP, scored anew after each
step, 52.8, where the default reaches 64.4. Of the harmonic mean the best peer leaves 39.9, the
default 56.2. The `pxp` of these tables is an earlier one, weaker than PXP's own code (31.3,
harmonic; it started relevance at the class score, and not at 1): gains over it, and more so over
`$baseline`, are larger than those over the best that there is, which are 34 to
44 % of the harmonic area, over real peers and over the `taylor` here.

$sections
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

RECOVERY = Template("""\
# What recovery adds, and to which method

Written by `python examples/benchmarks/control.py --data DATA --out runs/ --page recovery` from its
runs. Tasks, figures and protocol are those of [the comparison with all weights
frozen](control.md); here what is left is [refitted](how-it-works.md#recovery-without-training) on
the reference set at each rate, for every method alike. What `prune` refits by default, and why, is
on [a page of its own](recovery-choice.md). *Over frozen*: AUC of `$default` against
that of `$baseline` with all weights frozen, on the same seeds. Where layers are refitted, the
`$default` of these tables is the default for frozen weights; how much more the default for
refitted layers keeps stands [beside its description](how-it-works.md#unique-contributions).

![Accuracy over the pruning rate, VGG16 on five classes, the head refitted](images/recovery.png)

$sections
## What was tried

With the head refitted (`recovery="head"`), on validation images; AUC. *Trials*: several proposals
for each step, of which the one goes that leaves the highest harmonic mean accuracy, by heads that
did not see the sample, fitted to what it leaves. *Before*: by the scores of the unpruned model.
*VGG16*: mean of `vgg16-5`, `vgg16-3` and `vgg16-2` with two reference sets each, 10 images per
class. *Digits*: `residual-digits` with two, 20 per class. Equal steps. By chance alone, such means
differ by about one point.

| variant | VGG16 | digits |
| --- | ---: | ---: |
| scores now, a pool of 20 % | 75.6 | 86.5 |
| four trials: now and before, pools of 0 and 20 % | 77.5 | 87.1 |
| six, the default: the mean of both scores, too | 77.7 | 87.4 |
| nine: pools of 10 %, too | 78.2 | 87.4 |
| the same nine, heads with the penalty that suits the unpruned network | 77.1 | |
| no trials, scores before fading as filters go, a pool of 20 % | 76.1 | 87.3 |
| the same, a pool of 10 % | 77.1 | 84.6 |

Trials otherwise: four judged a step of 5 % further ahead, where more is lost, 87.6 on digits
(87.1 at the step itself) and 73.7 on `vgg16-2` (74.7), two steps further 85.1 and 74.1 with one
reference set each. Four, and five more whose scores are scaled group by group at random, the
scale of the winner being kept, 87.5 and 73.9, for 190 to 250 passes. Six, and more by the
magnitude of the mean contribution and by its root mean square, 73.6 without and 73.9 with
elections on `vgg16-2`, one reference set (75.0). Six with the folds of the judging heads drawn four
times, 82.1 on three runs where one draw has 81.9.

No trials of whole proposals, but one for each group, its lowest-scored fifth, which sets how its
scores compare with those of other groups: 69.2 on `vgg16-5` (as it is 70.0), 86.8 and 82.6 on
`vgg16-3` (81.9 and 83.4), 88.2 on digits (86.5). It loses at rates from 80 % on, and takes a pass
for each group.

Before there were trials, with *VGG16* the mean of `vgg16-5` with two reference sets and `vgg16-3`
with one:

| variant | explains | steers | VGG16 | digits |
| --- | --- | --- | ---: | ---: |
| as the default, but in equal steps and without trials | own head | cross-fitted | 74.0 | 86.5 |
| the same | own | own | 74.1 | |
| in adaptive steps | refitted | cross-fitted | 74.2 | |
| equal steps | refitted | cross-fitted | | 84.6 |
| a pool of 10 % | own | own | 75.3 | 86.2 |
| a pool of 10 % | refitted | cross-fitted | 75.7 | 85.3 |
| a pool of 30 % | own | own | 73.4 | |
| no election | refitted | cross-fitted | 75.1 | |
| no election, the mean of the scores in the whole network and now | own | own | 77.0 | 83.6 |
| an election by these means, a pool of 20 % | own | own | | 87.9 |
| Taylor | own | nothing | 74.2 | |
| Taylor | refitted | nothing | 74.3 | |
| `pxp` | own | nothing | 74.1 | |
| iterative LRP | own | nothing | 70.0 | 84.3 |
| iterative LRP | refitted | nothing | 65.5 | 85.1 |

`vgg16-5`, one reference set, scored by a refitted head (as it is 69.4, in adaptive steps 69.0): by
the heads that did not see the sample 68.1; contributions to all class scores 68.3, by these heads
67.8; what a ridge head fitted to the other samples makes up for left out 69.0; steps of 2.5 % 68.8;
classes weighted alike 67.8; mirror images in the reference set 68.6; a pool of 50 % 68.3; how two
units cancel out counting 20 or 50 % less 69.6 and 69.3; preset A with order and rate 55.5.

So which head explains matters little, but to iterative LRP: that is why the model's own does. Nor
does any one score win; to let accuracy choose among several does.

Head and least squares fitted anew at 30, 50, 70, 80 and 90 %, on what the stage before had left,
against once at the end: mean accuracy at these rates on `mobilenet-flowers` 52.7 and 53.6 (two
reference sets), against 51.1 and 53.0. For five times the work: so it is done at the end.

## Limits

- With recovery the AUC hardly exceeds the accuracy of the unpruned network: 81 to 96 % on the four
  tasks of VGG16, 87 % on average. Iterative LRP with all weights frozen reaches 50.6 there, so that
  no method can gain more than about 71 % over it, in the mean of these tasks. And the more recovery
  mends, the less is left between methods.
- With head and layers refitted, iterative LRP is within 1 % in the mean of the tasks, and where two
  classes are left, level.
- Trials are judged with the layers as they are. What least squares will mend is not seen.

## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")

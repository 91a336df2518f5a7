"""Recovery by training: fine-tuning with distillation, and cycles of pruning and fine-tuning."""

from keras_lrp_prune.finetuning.cycle_record import CycleRecord, CyclesResult
from keras_lrp_prune.finetuning.cycles import prune_and_finetune
from keras_lrp_prune.finetuning.tuner import finetune
from keras_lrp_prune.finetuning.tuning_result import TuningResult

__all__ = ["CycleRecord", "CyclesResult", "TuningResult", "finetune", "prune_and_finetune"]

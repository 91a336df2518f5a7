"""Filter pruning of pretrained Keras CNNs, guided by relevance and the harmonic mean accuracy.

The names below are loaded when they are first used: importing this package imports neither
TensorFlow nor Keras, and leaves `tf.keras` and the environment as they are.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {
    "prune": "keras_lrp_prune.pruning",
    "PruningResult": "keras_lrp_prune.pruning",
    "load_result": "keras_lrp_prune.pruning",
    "sensitivity": "keras_lrp_prune.pruning",
    "Sensitivity": "keras_lrp_prune.pruning",
    "GroupSensitivity": "keras_lrp_prune.pruning",
    "finetune": "keras_lrp_prune.finetuning",
    "TuningResult": "keras_lrp_prune.finetuning",
    "prune_and_finetune": "keras_lrp_prune.finetuning",
    "CyclesResult": "keras_lrp_prune.finetuning",
    "CycleRecord": "keras_lrp_prune.finetuning",
    "accuracy_curve": "keras_lrp_prune.comparison",
    "compare": "keras_lrp_prune.comparison",
    "Comparison": "keras_lrp_prune.comparison",
    "Method": "keras_lrp_prune.comparison",
    "MethodCurve": "keras_lrp_prune.comparison",
    "METHODS": "keras_lrp_prune.comparison",
    "profile": "keras_lrp_prune.profiling",
    "profile_table": "keras_lrp_prune.profiling",
    "Profile": "keras_lrp_prune.profiling",
    "filter_relevance": "keras_lrp_prune.relevance.attribution",
    "input_relevance": "keras_lrp_prune.relevance.attribution",
    "explain": "keras_lrp_prune.explaining",
    "plot_channel_groups": "keras_lrp_prune.explaining",
    "Explanation": "keras_lrp_prune.explaining",
    "find_channel_groups": "keras_lrp_prune.graph.analysis",
    "ChannelGroup": "keras_lrp_prune.graph.channels",
    "register_criterion": "keras_lrp_prune.criteria",
    "register_layer_rule": "keras_lrp_prune.graph.layer_registry",
    "register_layer_flops": "keras_lrp_prune.cost",
    "register_layer_lrp": "keras_lrp_prune.relevance.own_layers",
    "UnsupportedModelError": "keras_lrp_prune.graph.model_graph",
    "with_linear_head": "keras_lrp_prune.recovery",
    "delete_channels": "keras_lrp_prune.surgery.deletion",
    "harmonic_mean_accuracy": "keras_lrp_prune.evaluation",
    "AccuracyCurve": "keras_lrp_prune.evaluation",
    "AtChanceWarning": "keras_lrp_prune.evaluation",
    "load_image_folder": "keras_lrp_prune.data",
    "ImageFolder": "keras_lrp_prune.data",
    "DataError": "keras_lrp_prune.data",
    "WorkerError": "keras_lrp_prune.relevance.worker_process",
    "MissingInnvestigateError": "keras_lrp_prune.relevance.innvestigate_engine",
    "CheckpointError": "keras_lrp_prune.control.checkpoint",
}
_ROOMS = {
    "callbacks": "keras_lrp_prune.callbacks",
    "criteria": "keras_lrp_prune.criteria",
    "export": "keras_lrp_prune.export",
    "schedules": "keras_lrp_prune.control.schedules",
}

__all__ = [*sorted(_MODULES), *_ROOMS]

if TYPE_CHECKING:
    from keras_lrp_prune import callbacks as callbacks
    from keras_lrp_prune import criteria as criteria
    from keras_lrp_prune import export as export
    from keras_lrp_prune.comparison import METHODS as METHODS
    from keras_lrp_prune.comparison import Comparison as Comparison
    from keras_lrp_prune.comparison import Method as Method
    from keras_lrp_prune.comparison import MethodCurve as MethodCurve
    from keras_lrp_prune.comparison import accuracy_curve as accuracy_curve
    from keras_lrp_prune.comparison import compare as compare
    from keras_lrp_prune.control import schedules as schedules
    from keras_lrp_prune.control.checkpoint import CheckpointError as CheckpointError
    from keras_lrp_prune.cost import register_layer_flops as register_layer_flops
    from keras_lrp_prune.criteria import register_criterion as register_criterion
    from keras_lrp_prune.data import DataError as DataError
    from keras_lrp_prune.data import ImageFolder as ImageFolder
    from keras_lrp_prune.data import load_image_folder as load_image_folder
    from keras_lrp_prune.evaluation import AccuracyCurve as AccuracyCurve
    from keras_lrp_prune.evaluation import AtChanceWarning as AtChanceWarning
    from keras_lrp_prune.evaluation import harmonic_mean_accuracy as harmonic_mean_accuracy
    from keras_lrp_prune.explaining import Explanation as Explanation
    from keras_lrp_prune.explaining import explain as explain
    from keras_lrp_prune.explaining import plot_channel_groups as plot_channel_groups
    from keras_lrp_prune.finetuning import CycleRecord as CycleRecord
    from keras_lrp_prune.finetuning import CyclesResult as CyclesResult
    from keras_lrp_prune.finetuning import TuningResult as TuningResult
    from keras_lrp_prune.finetuning import finetune as finetune
    from keras_lrp_prune.finetuning import prune_and_finetune as prune_and_finetune
    from keras_lrp_prune.graph.analysis import find_channel_groups as find_channel_groups
    from keras_lrp_prune.graph.channels import ChannelGroup as ChannelGroup
    from keras_lrp_prune.graph.layer_registry import register_layer_rule as register_layer_rule
    from keras_lrp_prune.graph.model_graph import UnsupportedModelError as UnsupportedModelError
    from keras_lrp_prune.profiling import Profile as Profile
    from keras_lrp_prune.profiling import profile as profile
    from keras_lrp_prune.profiling import profile_table as profile_table
    from keras_lrp_prune.pruning import GroupSensitivity as GroupSensitivity
    from keras_lrp_prune.pruning import PruningResult as PruningResult
    from keras_lrp_prune.pruning import Sensitivity as Sensitivity
    from keras_lrp_prune.pruning import load_result as load_result
    from keras_lrp_prune.pruning import prune as prune
    from keras_lrp_prune.pruning import sensitivity as sensitivity
    from keras_lrp_prune.recovery import with_linear_head as with_linear_head
    from keras_lrp_prune.relevance.attribution import filter_relevance as filter_relevance
    from keras_lrp_prune.relevance.attribution import input_relevance as input_relevance
    from keras_lrp_prune.relevance.innvestigate_engine import (
        MissingInnvestigateError as MissingInnvestigateError,
    )
    from keras_lrp_prune.relevance.own_layers import register_layer_lrp as register_layer_lrp
    from keras_lrp_prune.relevance.worker_process import WorkerError as WorkerError
    from keras_lrp_prune.surgery.deletion import delete_channels as delete_channels


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(_ROOMS[name])
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Keras callbacks for training on several workers."""

from tf_terngrad.ternary.distributed.callbacks.broadcast import BroadcastVariables
from tf_terngrad.ternary.distributed.callbacks.checkpoint import Checkpoint
from tf_terngrad.ternary.distributed.callbacks.commit import CommitState
from tf_terngrad.ternary.distributed.callbacks.histograms import GradientHistograms
from tf_terngrad.ternary.distributed.callbacks.learning_rate import ScheduleLearningRate, WarmUpLearningRate
from tf_terngrad.ternary.distributed.callbacks.metrics import AverageMetrics
from tf_terngrad.ternary.distributed.callbacks.replicas import CheckReplicas

__all__ = [
    "AverageMetrics",
    "BroadcastVariables",
    "CheckReplicas",
    "Checkpoint",
    "CommitState",
    "GradientHistograms",
    "ScheduleLearningRate",
    "WarmUpLearningRate",
]

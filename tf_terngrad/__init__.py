"""Structured sparsity that ships and gradients that travel as ternary digits, for TensorFlow and Keras 3.

import tf_terngrad as tt

tt.sparsify(model, strength=5e-4)
model.compile(...)
model.fit(..., callbacks=[tt.callbacks.SparsityMonitor()])
small = tt.compact(model)
print(tt.compare(model, small))
tt.tflite.convert(small, "model.tflite")

gradient = hvd.allreduce(gradient, compression=tt.TernGrad())
"""

from tf_terngrad import tflite
from tf_terngrad.sparsity import callbacks, importance, rules
from tf_terngrad.sparsity.budget import Budget
from tf_terngrad.sparsity.calibrate import calibrate
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.costs import Costs, costs
from tf_terngrad.sparsity.hold import hold
from tf_terngrad.sparsity.learn import regularizers
from tf_terngrad.sparsity.learn import wrappers as layers
from tf_terngrad.sparsity.learn.course import BudgetSchedule
from tf_terngrad.sparsity.learn.metrics import Iterate, Metric, register_metric
from tf_terngrad.sparsity.learn.sparsity import Sparsity
from tf_terngrad.sparsity.prune import prune
from tf_terngrad.sparsity.remove.fates import fates
from tf_terngrad.sparsity.report import compare
from tf_terngrad.sparsity.rules import Rule, register_cost, register_rule
from tf_terngrad.sparsity.shrink.reconfigure import reconfigure
from tf_terngrad.sparsity.sparsify import sparsify
from tf_terngrad.sparsity.structure import Structure
from tf_terngrad.sparsity.structures import structures
from tf_terngrad.sparsity.sweep import sweep
from tf_terngrad.ternary import distributed
from tf_terngrad.ternary.compressor import Compression, TernGrad
from tf_terngrad.ternary.quantize import pack, ternarize, unpack
from tf_terngrad.ternary.schedules import Schedule, register_schedule

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BudgetSchedule",
    "Compression",
    "Costs",
    "Iterate",
    "Metric",
    "Rule",
    "Schedule",
    "Sparsity",
    "Structure",
    "TernGrad",
    "calibrate",
    "callbacks",
    "compact",
    "compare",
    "costs",
    "distributed",
    "fates",
    "hold",
    "importance",
    "layers",
    "pack",
    "prune",
    "reconfigure",
    "register_cost",
    "register_metric",
    "register_rule",
    "register_schedule",
    "regularizers",
    "rules",
    "sparsify",
    "structures",
    "sweep",
    "ternarize",
    "tflite",
    "unpack",
]

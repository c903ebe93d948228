"""Structured sparsity that ships, for Keras 3: learn which structures a network does not need, take them out, convert.

import tf_terngrad as tt

tt.sparsify(model, strength=5e-4)
model.compile(...)
model.fit(..., callbacks=[tt.callbacks.SparsityMonitor()])
small = tt.compact(model)
print(tt.compare(model, small))
tt.tflite.convert(small, "model.tflite")
"""

from tf_terngrad import tflite
from tf_terngrad.sparsity import callbacks, regularizers, rules
from tf_terngrad.sparsity import wrappers as layers
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.report import compare, register_cost
from tf_terngrad.sparsity.rules import Rule, register_rule
from tf_terngrad.sparsity.sparsify import Sparsity, sparsify
from tf_terngrad.sparsity.structures import Structure, structures

__version__ = "0.1.0"

__all__ = [
    "Rule",
    "Sparsity",
    "Structure",
    "callbacks",
    "compact",
    "compare",
    "layers",
    "register_cost",
    "register_rule",
    "regularizers",
    "rules",
    "sparsify",
    "structures",
    "tflite",
]

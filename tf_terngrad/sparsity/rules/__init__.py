"""What is known of each family of layers: one class a family, in one registry, open through `register_rule`."""

from tf_terngrad.sparsity.graph.channels import Channels
from tf_terngrad.sparsity.rules import (  # registered, and nothing more
    activation,
    attention,
    blocks,
    convolutional_recurrent,
    frozen,
    padding,
    reduction,
    repetition,
    stacking,
)
from tf_terngrad.sparsity.rules.along import Along
from tf_terngrad.sparsity.rules.applications import Scale
from tf_terngrad.sparsity.rules.axes import Axes
from tf_terngrad.sparsity.rules.base import Frozen, Part, Rule
from tf_terngrad.sparsity.rules.cells import Cell, GatedCell, silent_units
from tf_terngrad.sparsity.rules.compositions import NestedModel, Wrapped
from tf_terngrad.sparsity.rules.contraction import Contraction
from tf_terngrad.sparsity.rules.convolution import Convolution
from tf_terngrad.sparsity.rules.dense import Dense
from tf_terngrad.sparsity.rules.elementwise import Elementwise, Passing
from tf_terngrad.sparsity.rules.normalization import BatchNormalization
from tf_terngrad.sparsity.rules.pooling import Spatial
from tf_terngrad.sparsity.rules.recurrent import Recurrent
from tf_terngrad.sparsity.rules.registry import register_cost, register_rule, rule_for
from tf_terngrad.sparsity.rules.selection import Concatenation
from tf_terngrad.sparsity.rules.shape import Reshape

__all__ = [
    "Along",
    "Axes",
    "BatchNormalization",
    "Cell",
    "Channels",
    "Concatenation",
    "Contraction",
    "Convolution",
    "Dense",
    "Elementwise",
    "Frozen",
    "GatedCell",
    "NestedModel",
    "Part",
    "Passing",
    "Recurrent",
    "Reshape",
    "Rule",
    "Scale",
    "Spatial",
    "Wrapped",
    "activation",
    "attention",
    "blocks",
    "convolutional_recurrent",
    "frozen",
    "padding",
    "reduction",
    "register_cost",
    "register_rule",
    "repetition",
    "rule_for",
    "silent_units",
    "stacking",
]

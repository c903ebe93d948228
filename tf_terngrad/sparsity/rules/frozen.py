"""Layers whose width stays, for a reason worth telling. What no rule knows is frozen too, as unknown."""

from tf_terngrad.keras_internals import layers, operations
from tf_terngrad.sparsity.rules.base import Frozen, register_rule

_REASONS = {
    "convolutional recurrent layers keep their widths": "ConvLSTM1D ConvLSTM2D ConvLSTM3D",
    "attention layers keep their widths": "Attention AdditiveAttention MultiHeadAttention GroupQueryAttention",
    "its norm runs across channels": "SpectralNormalization",
    "any feature may mask a step": "Masking",
    "it runs Python code that cannot be followed": "Lambda",
}

for _reason, _names in _REASONS.items():
    for _type in layers(*_names.split()):
        register_rule(_type, Frozen(_reason))
for _type in operations("ZerosLike", "OnesLike"):
    register_rule(_type, Frozen("a mask, or another tensor, is made in its shape"))
for _type in operations("Glu", "Sparsemax"):
    register_rule(_type, Frozen("it runs across channels"))

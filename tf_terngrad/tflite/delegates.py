"""What the accelerators of phones are known to refuse, of their public documentation as read in November 2026.

A delegate takes the operators that it knows and leaves the others to the CPU, between copies that often cost more than
the delegate saves. None of them takes a tensor whose size is known only when the file runs:
https://github.com/tensorflow/tensorflow/issues/38036

This is what can be said from afar: a delegate may refuse more than this, by version, by device, or by the sizes of an
operator's tensors. `tf.lite.experimental.Analyzer` is no help; in the wheels of TensorFlow 2.21 and LiteRT 2.3 its
`gpu_compatibility` calls every file compatible, those with loops too.
"""

import dataclasses
from collections.abc import Callable, Mapping

from tf_terngrad.tflite.litert import walk


@dataclasses.dataclass(frozen=True)
class Delegate:
    """One accelerator's software.

    Attributes:
        name: What a report calls it.
        source: The document that says what it takes.
        takes: Names of TFLite operators.
        where: Dict of some of them to a function of an `Operator` that tells whether this one is taken.
        floats_only: It takes no file that computes with integers.
    """

    name: str
    source: str
    takes: frozenset
    where: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    floats_only: bool = False

    def refuses(self, operator):
        """Whether an operator is known to stay on the CPU."""
        known = self.where.get(operator.name, lambda _: True)
        return operator.name not in self.takes or not known(operator) or (self.floats_only and not operator.floating)


def refused(path):
    """Returns of each delegate the names of a file's operators that it is known to refuse.

    Args:
        path: Of a TFLite file.

    Returns:
        Dict of a delegate's name to a tuple of names of operators, each once, in the order of the file.
    """
    found = list(walk(path))
    return {one.name: tuple(dict.fromkeys(o.name for o in found if one.refuses(o))) for one in DELEGATES}


def _names(text):
    return frozenset(text.split())


def _three_or_four(operator):
    """An image, with or without its batch."""
    return operator.ranks[0] in (3, 4)


GPU = Delegate(
    "GPU",
    # What the delegate itself asks, of TensorFlow 2.21; https://ai.google.dev/edge/litert/performance/gpu has fewer.
    "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/lite/tools/versioning/gpu_compatibility.cc",
    _names(
        """
        ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION CONV_2D COS CUMSUM DENSIFY
        DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR
        FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
        LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2
        POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
        RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
        SQUARED_DIFFERENCE STABLEHLO_CLAMP STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV
        """
    ),
    {
        "GATHER": lambda operator: operator.ranks[1] == 1,  # of a sequence of tokens, the indices have two
        "SLICE": _three_or_four,
        "STRIDED_SLICE": _three_or_four,
    },
)

QUALCOMM = Delegate(
    "Qualcomm NPU",
    "https://github.com/google-ai-edge/LiteRT/blob/main/litert/vendors/qualcomm/compiler/Qualcomm_QNN_Compiler.md",
    _names(
        """
        ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BROADCAST_TO CAST CEIL CONCATENATION CONV_2D CONV_3D COS
        CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR
        FLOOR_DIV FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION L2_POOL_2D
        LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM
        MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN RELU
        RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT
        SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE STABLEHLO_COMPOSITE
        STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK
        """
    ),
)

CORE_ML = Delegate(
    "Core ML",
    "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/g3doc/performance/coreml_delegate.md",
    _names(
        """
        ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED HARD_SWISH LOGISTIC MAX_POOL_2D MUL
        RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR SOFTMAX TANH TRANSPOSE_CONV
        """
    ),
    floats_only=True,
)

DELEGATES = (GPU, QUALCOMM, CORE_ML)

"""Ship a Keras model as a TFLite file: convert it, check the file against the model, measure it."""

from tf_terngrad.tflite.conversion import convert
from tf_terngrad.tflite.converter import ConversionError
from tf_terngrad.tflite.latency import LatencyComparison, LatencyReport, benchmark, compare_latency
from tf_terngrad.tflite.modes import QuantizationMode, register_mode
from tf_terngrad.tflite.report import ConversionReport, OutputCheck

__all__ = [
    "ConversionError",
    "ConversionReport",
    "LatencyComparison",
    "LatencyReport",
    "OutputCheck",
    "QuantizationMode",
    "benchmark",
    "compare_latency",
    "convert",
    "register_mode",
]

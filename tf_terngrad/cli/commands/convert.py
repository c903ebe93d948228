"""Convert a saved model to a TFLite file, and check the file against the model.

Arrays come as .npz files: one array an input, under the input's name; a model of one input takes any name, or a .npy.

Examples:
  tf-terngrad convert model.keras model.tflite
  tf-terngrad convert model.keras model.tflite --quantize=int8 --calibration=inputs.npz
  tf-terngrad convert words.keras words.tflite --streaming=1
  tf-terngrad convert reviews.keras reviews.tflite --start=text_vectorization
"""

import argparse

from tf_terngrad import tflite
from tf_terngrad.cli.files import add_model_arguments, check_target, load_arrays, load_model
from tf_terngrad.cli.types import integer, names
from tf_terngrad.console import doing
from tf_terngrad.tflite.candidates import AUTO, CHOICES
from tf_terngrad.tflite.modes import MODES
from tf_terngrad.tflite.recurrent import ROUTES

QUANTIZATIONS = {name or "none": mode for name, mode in MODES.items()}


def add_arguments(parser) -> None:
    """Add the model, the file, and how it stores numbers."""
    parser.add_argument("model", metavar="MODEL.keras", help="a saved Keras model; .h5 is read too")
    parser.add_argument("target", metavar="MODEL.tflite", help="the file to write")
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        default="none",
        help="how the file stores numbers: none keeps float32; float16 halves the file; dynamic has int8 weights; int8 "
        "computes with integers and needs --calibration",
    )
    parser.add_argument("--calibration", metavar="FILE.npz", help="representative inputs, for int8")
    parser.add_argument("--evaluation", metavar="FILE.npz", help="inputs and, as y, their labels: reports accuracy")
    parser.add_argument(
        "--batch-size", type=integer(0), default=1, metavar="N", help="examples that one run takes; 0: any number"
    )
    parser.add_argument(
        "--recurrent",
        choices=[*CHOICES, *ROUTES],
        default=AUTO,
        help="how recurrent layers run; auto measures and takes the fastest, smallest takes the smallest file",
    )
    parser.add_argument(
        "--streaming", type=integer(1), metavar="N", help="one run takes N steps, with states in and out"
    )
    parser.add_argument(
        "--start",
        type=names,
        metavar="NAME,...",
        help="begin the file behind these layers, as those that turn text into numbers",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    add_model_arguments(parser)


def run(arguments) -> None:
    """Convert, check and print the report."""
    mode = QUANTIZATIONS[arguments.quantize]
    if mode.needs_calibration and not arguments.calibration:
        raise argparse.ArgumentError(None, f"--quantize={arguments.quantize} needs --calibration=FILE.npz")
    sources = [arguments.model, arguments.calibration, arguments.evaluation]
    check_target(arguments.target, [".tflite"], sources, arguments.overwrite)
    calibration = only_or_all(load_arrays(arguments.calibration)) if arguments.calibration else None
    evaluation = evaluation_pair(arguments.evaluation) if arguments.evaluation else None
    model = load_model(arguments.model, arguments)
    with doing(f"Converting {arguments.model}"):
        report = tflite.convert(
            model,
            arguments.target,
            quantize=mode,
            calibration=calibration,
            evaluation=evaluation,
            batch_size=arguments.batch_size or None,
            recurrent=arguments.recurrent,
            streaming=arguments.streaming,
            start=arguments.start,
        )
    print(report)


def only_or_all(arrays):
    """The array of a dict that holds one, whatever its name, else the dict."""
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def evaluation_pair(path):
    """The pair (inputs, labels) of a .npz whose labels are called y.

    Raises:
        ValueError: it does not hold both.
    """
    arrays = load_arrays(path)
    if "y" not in arrays or len(arrays) < 2:
        raise ValueError(f"{path}: expected inputs and an array y of labels. Received: {sorted(arrays)}")
    labels = arrays.pop("y")
    return only_or_all(arrays), labels

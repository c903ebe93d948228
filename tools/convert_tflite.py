"""Converts a saved Keras model to a TFLite file, checks the file against the model and prints the report.

    python tools/convert_tflite.py model.keras model.tflite
    python tools/convert_tflite.py model.keras model.tflite --quantize=int8 --calibration=inputs.npz
    python tools/convert_tflite.py words.keras words.tflite --streaming=1

Arrays come as .npz files: one array an input, under the input's name; a model of one input takes any name, or a .npy.
"""

import pathlib
import sys
import zipfile

import numpy as np
from absl import app, flags
from common import check_target, first_line, load_model

from tf_terngrad import tflite
from tf_terngrad.tflite.recurrent import ROUTES

FLAGS = flags.FLAGS
flags.DEFINE_enum("quantize", "none", ["none", "float16", "dynamic", "int8"], "How the file stores its numbers.")
flags.DEFINE_string("calibration", None, "A .npz or .npy of representative inputs; int8 needs it.")
flags.DEFINE_string("evaluation", None, "A .npz of inputs and, under the name y, their labels: reports accuracy.")
flags.DEFINE_integer("batch_size", 1, "Examples that one run of the file takes; 0 leaves it free.", lower_bound=0)
flags.DEFINE_enum(
    "recurrent", "auto", ["auto", *ROUTES], "How recurrent layers run; auto measures and takes the fastest."
)
flags.DEFINE_integer("streaming", None, "Steps that one run takes, with states in and out; none: all.", lower_bound=1)
flags.DEFINE_bool("overwrite", False, "Replace a file that exists.")


def load_arrays(path):
    """Loads arrays.

    Args:
        path: Of a .npz or .npy file.

    Returns:
        A dict of arrays by name; a .npy gives one, named "array".

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a whole file of arrays.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"Expected a .npz or .npy file. Received: {path}, which does not exist or is no file.")
    try:
        content = np.load(path)
        return {"array": content} if isinstance(content, np.ndarray) else dict(content)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a whole .npz or .npy file: {first_line(error)}") from error


def only_or_all(arrays):
    """Returns the array of a dict that holds one, whatever its name, else the dict."""
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def evaluation_pair(path):
    """Loads the pair (inputs, labels) from a .npz whose labels are called y."""
    arrays = load_arrays(path)
    if "y" not in arrays or len(arrays) < 2:
        raise ValueError(f"{path}: expected inputs and an array y of labels. Received: {sorted(arrays)}.")
    labels = arrays.pop("y")
    return only_or_all(arrays), labels


def run(source, target):
    """Converts the model in the file `source` to the file `target`, as the flags say, and prints the report."""
    check_target(target, [".tflite"], [source, FLAGS.calibration, FLAGS.evaluation], FLAGS.overwrite)
    report = tflite.convert(
        load_model(source),
        target,
        quantize=None if FLAGS.quantize == "none" else FLAGS.quantize,
        calibration=only_or_all(load_arrays(FLAGS.calibration)) if FLAGS.calibration else None,
        evaluation=evaluation_pair(FLAGS.evaluation) if FLAGS.evaluation else None,
        batch_size=FLAGS.batch_size or None,
        recurrent=FLAGS.recurrent,
        streaming=FLAGS.streaming,
    )
    print(report)


def main(argv):
    """Reads the command line: two paths and flags."""
    if len(argv) != 3:
        raise app.UsageError("Expected two paths: model.keras model.tflite")
    try:
        run(*argv[1:])
    except (OSError, TypeError, ValueError, tflite.ConversionError) as error:
        sys.exit(f"convert_tflite: {error}")


if __name__ == "__main__":
    app.run(main)

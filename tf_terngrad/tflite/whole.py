"""A model as it is, the ordinary thing to convert; `streaming.Stream` is the other one."""

import dataclasses

import keras

from tf_terngrad.tflite.check import file_outputs


@dataclasses.dataclass(frozen=True)
class Whole:
    """What is converted, with the model's own inputs and outputs.

    Attributes:
        model: A Keras model.
        inputs: Its list of `Port`, the batch filled in.
        outputs: Its list of `Port`.
    """

    model: keras.Model
    inputs: list
    outputs: list
    note = ""

    def cut(self, arrays, what):
        """Returns the data that can be run: all of it."""
        return arrays

    def cut_labels(self, labels, arrays):
        """Returns the labels that belong to it: all of them."""
        return labels

    @property
    def sequences(self):
        """List of `Port`, the model's inputs."""
        return self.inputs

    def calibration(self, arrays):
        """Returns what the inputs hold while the data passes through."""
        return arrays

    def file_outputs(self, path, arrays):
        """Runs a file made of the model."""
        return file_outputs(path, arrays, self.inputs, self.outputs)

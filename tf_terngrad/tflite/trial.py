"""Files on trial: each runs beside its model, and the first whose outputs are near enough is taken."""

import dataclasses
import pathlib
import warnings

import keras
import numpy as np

from tf_terngrad.tflite import check
from tf_terngrad.tflite.converter import ConversionError
from tf_terngrad.tflite.litert import aborts
from tf_terngrad.tflite.modes import QuantizationMode, simpler_modes
from tf_terngrad.tflite.streaming import Stream
from tf_terngrad.tflite.whole import Whole


@dataclasses.dataclass(frozen=True)
class Trial:
    """What the files made of one model have to hold to.

    Attributes:
        model: A Keras model.
        shipped: The `Whole` or the `Stream` that was converted.
        mode: A `QuantizationMode`, whose tolerance is the law.
        outputs: The model's list of `Port`.
        draft: A path for the file on trial; in the end it holds the one that was taken.
    """

    model: keras.Model
    shipped: Whole | Stream
    mode: QuantizationMode
    outputs: list
    draft: pathlib.Path

    def first_lawful(self, found, arrays, checked_on):
        """Writes the first file within its tolerance, else the nearest.

        Args:
            found: A list of `Candidate`, the best first.
            arrays: A list of the model's inputs.
            checked_on: What they are, in words.

        Returns:
            The pair (candidate, list of `OutputCheck`).

        Warns:
            UserWarning: No file is within its tolerance, and the mode is not exact.

        Raises:
            ValueError: The model itself gives NaN or infinity.
            ConversionError: No file runs and gives finite numbers; or none is within the tolerance of an exact mode.
        """
        tried, errors = [], []
        for candidate in found:
            self.draft.write_bytes(candidate.content)
            try:
                self._check_safe()
                checks = self._checks(arrays, checked_on)
            except ConversionError as error:
                errors.append(error)
                continue
            tried.append((max(output.relative_difference for output in checks), candidate, checks))
            if tried[-1][0] <= self.mode.tolerance:
                break
        if not tried:
            raise errors[-1]
        _, taken, checks = min(tried, key=lambda one: one[0])
        self.draft.write_bytes(taken.content)
        self._judge(checks, checked_on)
        return taken, checks

    def with_accuracy(self, checks, arrays, labels):
        """Adds to the checks how many labels the model and the file get right.

        Args:
            checks: A list of `OutputCheck`.
            arrays: A list of the model's inputs.
            labels: Dict of labels by output name.

        Returns:
            A list of `OutputCheck`.
        """
        expected, received = self._both_outputs(arrays)
        results = []
        for port, output, ours, theirs in zip(self.outputs, checks, expected, received, strict=True):
            if port.name in labels:
                model_share, file_share = check.accuracies(port, ours, theirs, labels[port.name])
                output = dataclasses.replace(output, keras_accuracy=model_share, file_accuracy=file_share)
            results.append(output)
        return results

    def _check_safe(self):
        """Refuses a file that would end this process; only the integers of a calibration are known to do that."""
        if self.mode.needs_calibration and aborts(self.draft):
            raise ConversionError(
                f"LiteRT ends the process that opens the file made of model '{self.model.name}'. The ranges of two"
                f" activations differ by more than {self.mode} can bridge: a normalization of a single feature gives"
                f" such, and any layer whose outputs are all equal. Take it out, or use one of"
                f" {simpler_modes(self.mode)}."
            )

    def _checks(self, arrays, checked_on):
        expected, received = self._both_outputs(arrays)
        for port, ours, theirs in zip(self.outputs, expected, received, strict=True):
            where = f"output '{port.name}' of model '{self.model.name}' on {checked_on}"
            if not np.isfinite(ours).all():
                raise ValueError(f"NaN or infinity in {where}: give inputs of the right range, calibration=.")
            if ours.shape != theirs.shape or not np.isfinite(theirs).all():
                raise ConversionError(
                    f"The file breaks {where}: expected finite numbers of shape {ours.shape}. Received: shape"
                    f" {theirs.shape}, {np.count_nonzero(~np.isfinite(theirs))} of them NaN or infinity."
                )
        return [check.compare_outputs(*triple) for triple in zip(self.outputs, expected, received, strict=True)]

    def _both_outputs(self, arrays):
        expected = check.keras_outputs(self.model, arrays)
        try:
            return expected, self.shipped.file_outputs(self.draft, arrays)
        except ValueError as error:
            reason = str(error.__cause__ or error).strip()
            remedy = " See that the calibration inputs vary, so that no activation has an empty range."
            raise ConversionError(
                f"LiteRT cannot run the file made of model '{self.model.name}': {reason}"
                + (remedy if self.mode.needs_calibration else "")
            ) from error

    def _judge(self, checks, checked_on):
        for output in checks:
            if output.relative_difference > self.mode.tolerance:
                message = (
                    f"The file's output '{output.name}' differs from model '{self.model.name}' on {checked_on} by"
                    f" {output.max_difference:.3g}; expected at most {self.mode.tolerance:g} of its scale"
                    f" {output.scale:.3g} for {self.mode}."
                )
                if self.mode.exact:
                    raise ConversionError(message)
                warnings.warn(f"{message} Give evaluation= to see what it costs, or try another mode.", stacklevel=4)


def by_output(labels, outputs):
    """Returns a dict of labels by output name, as they were given, or that of the only output."""
    names = [port.name for port in outputs]
    if not isinstance(labels, dict):
        if len(outputs) > 1:
            raise ValueError(f"evaluation: expected a dict of labels by output, of {names}. Received: one array.")
        labels = {names[0]: labels}
    if not set(labels) <= set(names):
        raise ValueError(f"evaluation: expected labels for outputs among {names}. Received: {list(labels)}.")
    return labels

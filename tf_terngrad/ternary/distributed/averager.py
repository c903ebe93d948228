"""The average of gradients over the workers, with what must hold before anything is sent."""

import functools

import tensorflow as tf

from tf_terngrad.keras_internals import in_xla
from tf_terngrad.ternary.distributed import agreement, gradients, presence
from tf_terngrad.ternary.state import ExchangeState


class Averager:
    """Averages gradients over the workers; every worker has one, and the workers use theirs in the same order.

    What its exchanges are called depends on what is exchanged alone, not on what a worker has done before: others may
    have trained a part by themselves, or come later. All of them go in turn, so that their names serve again.

    Args:
        settings: `Settings`.

    Attributes:
        state: `ExchangeState`, of the random bits.

    Raises:
        ModuleNotFoundError, RuntimeError: Horovod is not installed, or not initialized.
        ValueError: this worker is not in the process set.
    """

    def __init__(self, settings):
        settings.network.ready()
        self.settings = settings
        self.state = ExchangeState()

    @tf.autograph.experimental.do_not_convert  # to convert the package takes ten times as long as to trace it
    def __call__(self, values, variables) -> list:
        """The averages of gradients, a list as `gradients.average` takes and gives it.

        Raises:
            ValueError: they are not alike on all workers (in graphs, an InvalidArgumentError); or XLA compiles this.
        """
        values, names = list(values), [name_of(variable) for variable in variables]
        network = self.settings.network
        if network.alone():
            return values
        if in_xla(tf.compat.v1.get_default_graph()):
            raise ValueError(
                "XLA cannot compile an exchange between workers. Give jit_compile=False to model.compile or "
                "tf.function; where there is a GPU, Keras turns XLA on unless told not to."
            )
        return network.in_turn(functools.partial(self._average, values, names, _calibrations(variables), network))

    def _average(self, values, names, calibrations, network):
        lines = [str(self.settings), f"{len(calibrations)} strengths to set by the first batch"]
        lines += (self._describe(value, name) for value, name in zip(values, names, strict=True))
        # Behind the question the workers know that their lines are the same: so are the names that depend on them.
        name = f"tf_terngrad.gradients.{agreement.digest(lines):x}"
        with tf.control_dependencies(self._agree(values, lines, calibrations, network, name)):
            values = [None if value is None else tf.identity(value) for value in values]
        return gradients.average(values, names, self.settings, network, self.state.next_step(), name)

    @tf.autograph.experimental.do_not_convert
    def everywhere(self, flag) -> tf.Tensor:
        """Whether a boolean scalar is true on all workers."""
        network = self.settings.network
        if network.alone():
            return flag
        fails = tf.cast(~flag, tf.float32)
        return network.in_turn(lambda: network.maximum(fails, "tf_terngrad.everywhere")) == 0

    @staticmethod
    def _agree(values, lines, calibrations, network, name) -> list:
        """Asks in every step, for workers may come and gradients go: what is concatenated, Horovod cannot compare.

        The question waits for the last layer's gradient: a worker that has no data, or fails before, has not asked. It
        travels while the other gradients are computed. It is called the same whatever the lines are.

        Returns:
            What has to have run before they are exchanged.
        """
        own = tf.stack([tf.constant(agreement.digest(lines), tf.int64), _signature(calibrations)])
        with tf.control_dependencies([value for value in values if value is not None][-1:]):
            own = tf.concat([own, -own, [presence.PRESENT]], 0)
        most, least, absent = tf.split(network.maximum(own, presence.AGREEMENT), [2, 2, 1])
        with tf.control_dependencies(presence.agreed(most[0], -least[0], absent[0], network)):
            differ = tf.not_equal(most, -least)
        checked = agreement.require_if(differ[0], lines, "The gradients", network)
        if not calibrations:
            return [differ if checked is None else checked]
        with tf.control_dependencies([] if checked is None else [checked]):
            return [tf.cond(differ[1], lambda: _calibrate(calibrations, network, name), lambda: False)]

    def _describe(self, gradient, name):
        if gradient is None:
            return agreement.entry(name, "no gradient")
        shape = gradient.values.shape[1:] if isinstance(gradient, tf.IndexedSlices) else gradient.shape
        return agreement.entry(name, f"{gradient.dtype.name} {tuple(shape)} as {self.settings.route(gradient, name)}")


def name_of(variable) -> str:
    """The path of a Keras variable, the name of another."""
    name = getattr(variable, "path", None) or getattr(variable, "name", None) or "a tensor"
    return name.removesuffix(":0")


def _calibrations(variables) -> list:
    """What variables have that is set by a worker's own data, as a strength of `sparsify` by its first batch."""
    return list(dict.fromkeys(found for variable in variables for found in getattr(variable, "calibrations", ())))


def _calibrate(calibrations, network, name) -> bool:
    """Have the workers agree on what each of them has read off its own data."""
    for number, calibration in enumerate(calibrations):
        calibration.agree(functools.partial(_mean, network=network, name=f"{name}.calibration.{number}"))
    return True


def _signature(calibrations) -> tf.Tensor:
    """A number, int64, that is the same where all calibrations' values are."""
    signature = tf.zeros((), tf.int64)
    for calibration in calibrations:
        signature = 31 * signature + tf.cast(tf.bitcast(calibration.own_strength(), tf.int32), tf.int64)
    return signature


def _mean(value, network, name) -> tf.Tensor:
    """The mean of the workers' values; in float64 that of equal floats is exactly theirs."""
    total = network.total(tf.cast(value, tf.float64), name)
    return tf.cast(total / tf.cast(network.size(), tf.float64), value.dtype)

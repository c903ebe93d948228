"""Workers that `fit` end their epochs and trainings together: what one of them does, the others hear of, and do too.

One whose epoch is over answers in the steps of the others (`presence`), and theirs is over too. At the end of an epoch
all of them meet twice, before and after the callbacks, so that whoever is stopped stops all. At the end of training
weights that a callback has put back on one of them, as EarlyStopping does, become those of all.

`keras.Model.fit` and `keras.callbacks.CallbackList` do this, which are told once and serve other models as before: no
order of callbacks matters.
"""

import math

import keras
import tensorflow as tf
from absl import logging

from tf_terngrad.keras_internals import optimizers_of, put_around
from tf_terngrad.ternary.distributed import presence
from tf_terngrad.ternary.distributed.loss_scale import exchange_of, inner
from tf_terngrad.ternary.distributed.variables import broadcast_variables, checksums


def install() -> None:
    """Tell Keras' classes."""
    put_around(keras.Model, "fit", _fitting)
    put_around(keras.callbacks.CallbackList, "on_train_begin", _beginning)
    put_around(keras.callbacks.CallbackList, "on_epoch_begin", _watching)
    put_around(keras.callbacks.CallbackList, "on_epoch_end", _ending_an_epoch)
    put_around(keras.callbacks.CallbackList, "on_train_end", _ending)


class _Step:
    """The function that fit calls in each step; where others leave it, the epoch ends as at the end of the data.

    A step that moved no weight does not count, on either side: Keras counts it, for that waits for no data.
    """

    def __init__(self, function, model, record):
        self.function, self._record = function, record
        self._counters = list(_counters(model))

    def __call__(self, iterator):
        counts = [tf.convert_to_tensor(counter) for counter in self._counters]  # nobody waits for a device
        try:
            return self.function(iterator)
        except tf.errors.OutOfRangeError:
            _set(self._counters, counts)
            raise
        except tf.errors.InvalidArgumentError as error:
            if presence.LEFT not in str(error):
                raise
        everyones = self._record.ask("step")
        _set(self._counters, counts)
        told = "; ".join(f"worker {rank} {each['text']}" for rank, each in enumerate(everyones) if each["at"] != "step")
        logging.warning("tf_terngrad: the epoch ends on all workers: %s.", told)
        raise tf.errors.OutOfRangeError(None, None, told)


def _counters(model):
    """What counts the updates of a model's optimizers."""
    for optimizer in map(inner, optimizers_of(model)):
        yield from (variable for variable in optimizer.variables if variable.name == "iteration")
        yield from exchange_of(optimizer).state.variables if exchange_of(optimizer) else ()


def _set(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _fitting(fit):
    def fit_together(model, *args, **kwargs):
        with presence.of(model) as record:
            try:
                return fit(model, *args, **kwargs)
            except (Exception, SystemExit) as error:
                record.failed(error)
                raise
            finally:
                if isinstance(model.train_function, _Step):
                    model.train_function = model.train_function.function

    return fit_together


def _beginning(on_train_begin):
    def begin(callbacks, logs=None):
        for each in list(callbacks.callbacks):
            if hasattr(each, "before_training"):
                each.before_training(callbacks.callbacks)
        on_train_begin(callbacks, logs)
        presence.known_of(callbacks.model).active = True

    return begin


def _watching(on_epoch_begin):
    def watch(callbacks, epoch, logs=None):
        on_epoch_begin(callbacks, epoch, logs)
        model, record = callbacks.model, presence.known_of(callbacks.model)
        if record.active and not isinstance(model.train_function, _Step):
            model.train_function = _Step(model.train_function, model, record)

    return watch


def _ending_an_epoch(on_epoch_end):
    def end_together(callbacks, epoch, logs=None):
        model, record = callbacks.model, presence.known_of(callbacks.model)
        if not (record.active and record.shared):
            return on_epoch_end(callbacks, epoch, logs)
        record.meet("epoch", f"{_reason(callbacks, logs)} in epoch {epoch + 1}")
        logs = {} if logs is None else logs
        for each in callbacks.callbacks:
            if hasattr(each, "before_epoch_end"):
                each.before_epoch_end(logs)
        on_epoch_end(callbacks, epoch, logs)
        everyones = record.meet("decision", _reason(callbacks, logs), stop=bool(model.stop_training))
        stopped = {rank: each["text"] for rank, each in enumerate(everyones) if each["stop"]}
        if stopped and not model.stop_training:
            told = "; ".join(f"worker {rank} {text}" for rank, text in stopped.items())
            logging.warning("tf_terngrad: training stops on all workers after epoch %d: %s.", epoch + 1, told)
            model.stop_training = True
        return None

    return end_together


def _ending(on_train_end):
    def end_together(callbacks, logs=None):
        model, record = callbacks.model, presence.known_of(callbacks.model)
        if not (record.active and record.shared):
            return on_train_end(callbacks, logs)
        before = checksums(model.trainable_variables)
        on_train_end(callbacks, logs)
        everyones = record.meet("end", before=before, after=checksums(model.trainable_variables))
        record.active = False
        changed = [rank for rank, each in enumerate(everyones) if each["after"] != each["before"]]
        before, after = ([each[when] for each in everyones] for when in ("before", "after"))
        if before.count(before[0]) == len(before) and after.count(after[0]) < len(after):
            broadcast_variables(model.weights, changed[0], record.network)
        return None

    return end_together


def _reason(callbacks, logs) -> str:
    """Why a worker ends an epoch, or training, as far as can be told."""
    if not callbacks.model.stop_training:
        return "has no more batches"
    if not math.isfinite((logs or {}).get("loss", 0)):
        return "was stopped, its loss is not finite"
    stops = [type(each).__name__ for each in callbacks.callbacks if getattr(each, "stopped_epoch", 0)]
    return f"was stopped by {' and '.join(stops)}" if stops else "was stopped by a callback that set stop_training"

"""What Horovod's source package needs changed before it compiles against TensorFlow 2.21, and why."""

import pathlib
from typing import NamedTuple


class Patch(NamedTuple):
    """One change of one file: `old` must be there, and becomes `new`."""

    file: str
    old: str
    new: str
    why: str


# Gloo's receivers ask for data; a request behind the worker's own data in the same queue makes the others wait for it.
RECEIVE_FIRST = "a slow link stands idle where a worker asks for what it can receive only behind all that it sends"
# What `tf_terngrad.TernGrad.allreduce_slices` needs; with another Horovod, rows travel as floats.
ASK_FOR_SLICES = "Horovod gathers the values of tf.IndexedSlices as they are; a compression may know better"
# Keras 3 asks optimizers, callbacks and variables other things than Horovod has: some of it trains apart in silence.
REFUSE = "around an optimizer of Keras 3 nothing is averaged, and its callbacks fail later, in words of their own"
KERAS_VARIABLES = "variables of Keras 3 are around those of TensorFlow, which it takes"
NUMBERED = "Keras numbers layers and optimizers: a worker that has built another model before waited for other names"
HELPERS = """def refuse_keras_3(what, name, instead):
    '''Raise for an object of Keras 3.'''
    import sys
    keras = sys.modules.get('keras')
    roots = {kind.__module__.split('.')[0] for kind in type(what).__mro__}
    if 'keras' in roots and keras is not None and int(keras.__version__.split('.')[0]) >= 3:
        raise ValueError(
            f'Horovod has no {name} for Keras {keras.__version__}: each worker would train a model of its own. '
            f'Expected {instead} in its place, or tf_keras (TF_USE_LEGACY_KERAS=1).'
        )


def of_tensorflow(variables):
    '''The variables of TensorFlow that those of Keras 3 are around; others as they are.'''
    values = [getattr(variable, 'value', None) for variable in variables]
    return [v if x is None or callable(x) else x for v, x in zip(variables, values)]


def broadcast_names(variables):
    '''A name for each: its place, and its own name without the numbers, which tell what a worker has built before.'''
    import re
    return [f"HorovodBroadcast_{i}_{re.sub('[^a-zA-Z]+', '_', v.name)}" for i, v in enumerate(variables)]


"""


def _refusals():
    """Patches that put a refusal first in what Horovod has for Keras, each with what there is in its place."""
    callbacks, elastic = "horovod/_keras/callbacks.py", "horovod/_keras/elastic.py"
    ours = "tf_terngrad.distributed.callbacks"
    for file, line, what, name, instead in (
        (
            "horovod/_keras/__init__.py",
            "    class _DistributedOptimizer(*optimizer.__class__.__bases__):\n",
            "optimizer",
            "DistributedOptimizer",
            "tf_terngrad.distributed.DistributedOptimizer(optimizer)",
        ),
        (
            callbacks,
            "        super(BroadcastGlobalVariablesCallbackImpl, self).__init__(*args)\n",
            "self",
            "BroadcastGlobalVariablesCallback",
            f"{ours}.BroadcastVariables()",
        ),
        (
            callbacks,
            "        super(MetricAverageCallbackImpl, self).__init__(*args)\n",
            "self",
            "MetricAverageCallback",
            f"{ours}.AverageMetrics()",
        ),
        (
            callbacks,
            "        super(LearningRateScheduleCallbackImpl, self).__init__(*args)\n",
            "self",
            "learning-rate callbacks",
            f"{ours}.ScheduleLearningRate() or WarmUpLearningRate()",
        ),
        *(
            (
                elastic,
                f"        super({name}Impl, self).__init__(*args)\n",
                "self",
                name,
                f"{ours}.CommitState(state)",
            )
            for name in ("CommitStateCallback", "UpdateBatchStateCallback", "UpdateEpochStateCallback")
        ),
        (
            "horovod/tensorflow/elastic.py",
            "        if not _model_built(model):\n            raise ValueError('Model must",
            "model",
            "KerasState",
            "tf_terngrad.distributed.elastic.KerasState(model)",
        ),
    ):
        indent = line[: len(line) - len(line.lstrip())]
        refuse = f"{indent}from horovod.tensorflow.util import refuse_keras_3\n"
        refuse += f"{indent}refuse_keras_3({what}, {name!r}, {instead!r})\n"
        yield Patch(file, line, refuse + line, REFUSE)


PATCHES = (
    Patch(
        "horovod/tensorflow/CMakeLists.txt",
        'list(APPEND TF_SOURCES "${PROJECT_SOURCE_DIR}/horovod/tensorflow/xla_mpi_ops.cc")',
        "",
        "TensorFlow no longer ships the XLA headers that this file includes",
    ),
    Patch(
        "cmake/Modules/FindTensorflow.cmake",
        " ${Tensorflow_LIB_PATH}/python/_pywrap_tensorflow_internal.so",
        "",
        "it has no soname, so the wheel would name it by its path on this machine; libtensorflow_cc has the symbols",
    ),
    Patch(
        "CMakeLists.txt",
        "-pthread -fPIC -Wall -ftree-vectorize",
        "-pthread -fPIC -w -ftree-vectorize -include cstdint",
        "Gloo uses uint8_t without its header, which newer compilers refuse; the warnings are not ours to mend",
    ),
    Patch(
        "setup.py",
        "cmake_build_args = ['--config', config]",
        "cmake_build_args = ['--config', config, '--target', 'tensorflow']",
        "one Gloo is enough; without a target CMake builds another, for a C++ standard that nothing links",
    ),
    Patch(
        "setup.py",
        "'RelWithDebInfo'",
        "'Release'",
        "debugging symbols are most of the library's size",
    ),
    Patch(
        "horovod/runner/js_run.py",
        "from distutils.spawn import find_executable",
        "from shutil import which as find_executable",
        "horovodrun imports it, and Python 3.12 has no distutils",
    ),
    Patch(
        "horovod/tensorflow/keras/__init__.py",
        "from keras import backend as K",
        "K = keras.backend",
        "tf.keras may be tf_keras, whose backend it then needs",
    ),
    Patch(
        "horovod/tensorflow/keras/callbacks.py",
        "from keras import backend as K",
        "K = keras.backend",
        "tf.keras may be tf_keras, whose backend it then needs",
    ),
    Patch(
        "horovod/tensorflow/__init__.py",
        """    op = handle_average_backwards_compatibility(op, average)

    if isinstance(tensor, tf.IndexedSlices):
""",
        """    op = handle_average_backwards_compatibility(op, average)

    if isinstance(tensor, tf.IndexedSlices) and hasattr(compression, 'allreduce_slices'):
        return compression.allreduce_slices(tensor, op, prescale_factor * postscale_factor, process_set)
    if isinstance(tensor, tf.IndexedSlices):
""",
        ASK_FOR_SLICES,
    ),
    Patch(
        "horovod/tensorflow/__init__.py",
        """        if isinstance(t, tf.IndexedSlices):
            indexed_slices_list.append(t)
""",
        """        if isinstance(t, tf.IndexedSlices) and hasattr(compression, 'allreduce_slices'):
            factor = prescale_factor * postscale_factor
            new_tensors_merged[i] = compression.allreduce_slices(t, op, factor, process_set)
        elif isinstance(t, tf.IndexedSlices):
            indexed_slices_list.append(t)
""",
        ASK_FOR_SLICES,
    ),
    Patch("horovod/tensorflow/util.py", "def vars_to_refs(vars):\n", HELPERS + "def vars_to_refs(vars):\n", REFUSE),
    *_refusals(),
    Patch(
        "horovod/tensorflow/functions.py",
        "    if inplace:\n        vars_by_device = {}\n",
        """    from horovod.tensorflow.util import of_tensorflow
    # Keras keeps the states of random streams as uint32, which Horovod does not send: each worker keeps its own
    variables = [variable for variable in of_tensorflow(list(variables)) if variable.dtype != tf.uint32]
    if inplace:
        vars_by_device = {}
""",
        KERAS_VARIABLES,
    ),
    Patch(
        "horovod/tensorflow/functions.py",
        """            for var in variables:
                var.assign(broadcast(var, root_rank, process_set=process_set))
""",
        """            for name, var in zip(broadcast_names(variables), variables):
                var.assign(broadcast(var, root_rank, name, process_set=process_set))
""",
        NUMBERED,
    ),
    Patch(
        "horovod/tensorflow/functions.py",
        """            return tf.group(*[var.assign(broadcast(var, root_rank, process_set=process_set))
                              for var in variables])
""",
        """            return tf.group(*[var.assign(broadcast(var, root_rank, name, process_set=process_set))
                              for name, var in zip(broadcast_names(variables), variables)])
""",
        NUMBERED,
    ),
    Patch(
        "horovod/tensorflow/functions.py",
        "from horovod.tensorflow.util import _cache, _executing_eagerly, _make_subgraph\n",
        "from horovod.tensorflow.util import _cache, _executing_eagerly, _make_subgraph, broadcast_names\n",
        NUMBERED,
    ),
    Patch(
        "horovod/tensorflow/mpi_ops.py",
        """horovod_broadcast_inplace_resource([var.handle for var in variables],
                                                        variable_names=[var.name for var in variables],
""",
        """horovod_broadcast_inplace_resource([var.handle for var in variables],
                                                        variable_names=broadcast_names(variables),
""",
        NUMBERED,
    ),
    Patch(
        "horovod/tensorflow/mpi_ops.py",
        "from horovod.tensorflow.util import _executing_eagerly\n",
        "from horovod.tensorflow.util import _executing_eagerly, broadcast_names\n",
        NUMBERED,
    ),
    Patch(
        "horovod/tensorflow/__init__.py",
        "            gradients = super(self.__class__, self).gradient(target, sources, output_gradients)\n",
        """            from horovod.tensorflow.util import of_tensorflow
            sources = of_tensorflow(sources) if isinstance(sources, (list, tuple)) else sources
            gradients = super(self.__class__, self).gradient(target, sources, output_gradients)
""",
        KERAS_VARIABLES,
    ),
    Patch(
        "horovod/common/gloo/gloo_controller.cc",
        "global_ranks_.reserve(size_);",
        "global_ranks_.resize(size_);",
        "the guard against workers that stop answering counts these ranks, and with Gloo found none to miss",
    ),
    Patch(
        "third_party/gloo/gloo/alltoallv.cc",
        """    int sendRank = (myRank + i) % worldSize;
    int recvRank = (myRank + worldSize - i) % worldSize;
    in->send(
        sendRank, slot, inOffsetPerRank[sendRank], inLengthPerRank[sendRank]);
    out->recv(
        recvRank, slot, outOffsetPerRank[recvRank], outLengthPerRank[recvRank]);
  }
""",
        """    int recvRank = (myRank + worldSize - i) % worldSize;
    out->recv(
        recvRank, slot, outOffsetPerRank[recvRank], outLengthPerRank[recvRank]);
  }
  for (int i = 1; i < worldSize; i++) {
    int sendRank = (myRank + i) % worldSize;
    in->send(
        sendRank, slot, inOffsetPerRank[sendRank], inLengthPerRank[sendRank]);
  }
""",
        RECEIVE_FIRST,
    ),
    Patch(
        "third_party/gloo/gloo/allgatherv.cc",
        """      out->send(sendRank, slot, byteOffsets[sendIndex], byteCounts[sendIndex]);
      out->recv(recvRank, slot, byteOffsets[recvIndex], byteCounts[recvIndex]);
      continue;
""",
        """      out->recv(recvRank, slot, byteOffsets[recvIndex], byteCounts[recvIndex]);
      out->send(sendRank, slot, byteOffsets[sendIndex], byteCounts[sendIndex]);
      continue;
""",
        RECEIVE_FIRST,
    ),
)


def patch(source, patches=PATCHES):
    """Applies patches to a source tree; a tree that differs from the expected one is left alone.

    Args:
        source: The folder of the source.
        patches: A sequence of `Patch`.

    Raises:
        ValueError: A file does not hold, exactly once, the text that its patch replaces.
    """
    texts = {}
    for change in patches:
        path = pathlib.Path(source, change.file)
        text = texts.get(path) or (path.read_text("utf-8") if path.is_file() else "")
        if text.count(change.old) != 1:
            raise ValueError(
                f"Cannot patch Horovod's {change.file} ({change.why}): expected once the text {change.old!r}. "
                f"Received: {text.count(change.old)} times. The patches are for another version of Horovod."
            )
        texts[path] = text.replace(change.old, change.new)
    for path, text in texts.items():
        path.write_text(text, "utf-8")

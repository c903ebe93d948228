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

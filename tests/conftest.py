"""What every test shares: quiet, seeded, and the same on every run."""

import contextlib
import os
import unittest.mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import keras
import pytest
import tensorflow as tf

from tf_terngrad.sparsity import rules
from tf_terngrad.sparsity.learn import metrics
from tf_terngrad.ternary import native, twin
from tf_terngrad.ternary.schedules import SCHEDULES

# Several workers share the machine's cores; a pool of threads for each would only make them wait for one another.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

# No deadline: the first example of a kind traces a TensorFlow graph. Derandomized: a failure is there for everyone.
hypothesis.settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
# HYPOTHESIS_PROFILE=search looks at new examples each time.
hypothesis.settings.register_profile("search", hypothesis.settings.get_profile("default"), derandomize=False)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# Files whose tests take many seconds each, for they start processes.
LONG = {
    *("test_train", "test_train_distributed", "test_language_rows", "test_network_lab", "test_horovod_calls"),
    *("test_distributed_optimizer", "test_distributed_sparsity", "test_elastic", "test_patience", "test_replicas"),
    *("test_wheel", "test_workers", "test_tflite_streaming", "test_faults", "test_examples"),
    *("test_distributed_checkpoint", "test_distributed_start", "test_elastic_state", "test_collectives"),
}


def pytest_collection_modifyitems(items):
    """Long tests begin first: at the end, no worker waits for one of them that another has just begun."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(autouse=True)
def fresh_and_seeded():
    """Layer names and random numbers start anew in each test, whatever ran before it."""
    keras.backend.clear_session(free_memory=False)  # collecting garbage takes longer than most tests
    keras.utils.set_random_seed(7)


@pytest.fixture(autouse=True)
def what_is_registered_is_forgotten():
    """Tests and examples register schedules, rules and metrics of their own; no other test sees them."""
    with contextlib.ExitStack() as stack:
        for registry in (SCHEDULES, rules.registry._REGISTRY, metrics._METRICS):
            stack.enter_context(unittest.mock.patch.dict(registry))
        yield


@pytest.fixture(params=[native, twin], ids=["native", "twin"], scope="module")
def implementation(request):
    """Each codec in turn."""
    return request.param


@pytest.fixture
def doubles():
    """Numbers of 64 bits, so that rounding does not hide what is wrong."""
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")

"""A training that is killed, and goes on in a new process that builds the whole model again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from reconfiguring import Zeroing, compiled, network, trained

import tf_terngrad as tt
from tf_terngrad.sparsity.shrink import interrupted


class Killed(keras.callbacks.Callback):
    """Ends the process in the third epoch, without a word."""

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder=None, *callbacks):
    """A training in which something leaves after the first epoch and after the second; the model."""
    model = network()
    model.get_layer("drop").rate = 0.0  # Keras's backups hold no states of random numbers
    # A bias before a normalization has a gradient of rounding alone, which a smaller epsilon would make full steps.
    compiled(model, keras.optimizers.Adam(0.02, epsilon=1e-3))
    reconfigure = tt.callbacks.Reconfigure(every=1)
    backup = [] if folder is None else [keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)]
    trained(model, Zeroing(), *backup, reconfigure, *callbacks)
    return model, reconfigure.gone


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    script = f"import test_reconfigure_interrupted as t; t.train({str(tmp_path)!r}, t.Killed())"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    noted = json.loads((tmp_path / "reconfigured.json").read_text())
    assert [each["epoch"] for each in noted] == [1, 2]  # the backup is from before the second one
    model, gone = train(tmp_path)
    expected, gone_at_once = train()
    assert gone == gone_at_once == noted
    assert int(model.optimizer.iterations) == int(expected.optimizer.iterations) == 6
    for mine, theirs in zip(model.variables, expected.variables, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7, err_msg=mine.path)


def test_a_backup_of_another_model_is_refused(tmp_path):
    train(tmp_path)
    model = network(width=6)
    with pytest.raises(ValueError, match=r"expected members of the model's structures|whose weights have other shapes"):
        interrupted.resume(model, tmp_path)


def test_where_there_is_no_backup_a_training_begins(tmp_path):
    assert interrupted.resume(network(), tmp_path) == []
    interrupted.note([], tmp_path / "made")
    assert interrupted.resume(network(), tmp_path / "made") == []

"""Saved and loaded: models of distributed optimizers are ordinary, and made distributed again in place."""

import copy
import json
import subprocess
import sys
import zipfile

import horovod.tensorflow as hvd
import keras
from distributed_training import BATCH, STEPS, differ, joint_batches, mine_of_all, network, trained
from workers import run_workers

from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed import DistributedOptimizer
from tf_terngrad.ternary.distributed.optimizer import is_distributed


def test_a_saved_model_loads_with_keras_alone(tmp_path):
    def together(path):
        model = network(embeds=True)
        optimizer = DistributedOptimizer(keras.optimizers.Adam(0.01, clipnorm=1.0), TernGrad())
        trained(model, optimizer, mine_of_all(), BATCH // 2)
        copies = [type(optimizer).from_config(optimizer.get_config()), copy.deepcopy(optimizer)]
        if hvd.rank() == 0:
            model.save(path)
        return [(type(one), is_distributed(one)) for one in (optimizer, *copies)], model.get_weights()

    path = str(tmp_path / "model.keras")
    (kinds, weights), _ = run_workers(together, path)
    assert kinds == [(keras.optimizers.Adam, distributed) for distributed in (True, False, False)]
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    assert json.loads(config)["compile_config"]["optimizer"]["module"] == "keras.optimizers"
    assert "terngrad" not in config.lower() and "horovod" not in config.lower()
    command = (
        "import sys; sys.modules['tf_terngrad'] = sys.modules['horovod'] = None\n"
        "import keras, numpy\n"
        f"model = keras.models.load_model({path!r})\n"
        "model.fit(numpy.ones((2, 6)), numpy.ones((2,)), verbose=0)\n"
        "print(type(model.optimizer).__name__, int(model.optimizer.iterations))"
    )
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["Adam", str(STEPS + 1)]
    loaded = keras.models.load_model(path)
    assert not differ(loaded.get_weights(), weights)


def test_a_loaded_models_optimizer_is_made_distributed_in_place(tmp_path):
    def together(path):
        model = keras.models.load_model(path)
        assert DistributedOptimizer(model.optimizer, TernGrad(smallest=1)) is model.optimizer
        model.fit(*mine_of_all(), batch_size=BATCH // 2, verbose=0)
        return model.get_weights()

    model = network()
    trained(model, keras.optimizers.Adam(), joint_batches(), BATCH)
    model.save(tmp_path / "model.keras")
    first, second = run_workers(together, tmp_path / "model.keras")
    assert not differ(first, second) and differ(first, model.get_weights())

"""Pictures of gradients: what they show is what the codec makes of the model's gradients, and the model stays."""

import keras
import numpy as np
import pytest
from small_training import classification, compiled, small_model

import tf_terngrad as tt
from tf_terngrad.ternary.distributed.callbacks.histograms import STAGES


def histograms(folder, **options):
    x, y = classification(40)
    return tt.distributed.callbacks.GradientHistograms(x, y, folder, **options)


def test_every_stage_is_what_the_paper_says(tmp_path):
    x, y = classification(40)
    model = compiled(small_model())
    pictures = histograms(tmp_path, workers=2, compression=tt.TernGrad(clip=0.8))
    model.fit(x, y, epochs=2, batch_size=40, verbose=0, callbacks=[pictures])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch-00{k}.png" for k in range(3)]
    assert [name.split("/")[-1] for name in pictures.values] == ["kernel", "kernel"]
    for stages in pictures.values.values():
        gradient, clipped, ternary, averaged = (stages[stage] for stage in STAGES)
        threshold = max(0.8 * gradient.std(), abs(gradient.mean()))
        np.testing.assert_allclose(clipped, np.clip(gradient, -threshold, threshold), rtol=1e-4)
        scale = np.abs(ternary).max()
        assert scale >= np.abs(clipped).max() * (1 - 1e-6)  # shared: the larger one of both workers
        assert set(np.unique(ternary)) <= {-scale, 0, scale}
        assert ((ternary == 0) | (np.sign(ternary) == np.sign(gradient))).all()
        assert len(np.unique(averaged)) <= 5


def test_nothing_of_the_model_changes(tmp_path):
    x, y = classification()
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=2), keras.layers.Dense(3)]
    results = []
    for callbacks in ([], [histograms(tmp_path, workers=4)]):
        keras.utils.set_random_seed(3)
        model = compiled(keras.Sequential([keras.Input((5,)), *(type(k).from_config(k.get_config()) for k in layers)]))
        history = model.fit(x, y, batch_size=40, epochs=2, shuffle=False, verbose=0, callbacks=callbacks).history
        results.append((history, [variable.numpy() for variable in model.variables]))
    (plain, weights), (watched, same) = results
    for name in plain:
        np.testing.assert_array_equal(plain[name], watched[name])
    for one, other in zip(weights, same, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_tells_how_often_and_variables_which(tmp_path):
    x, y = classification(40)
    pictures = histograms(tmp_path, every=2, variables="*bias")
    compiled(small_model()).fit(x, y, epochs=3, batch_size=40, verbose=0, callbacks=[pictures])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-000.png", "epoch-002.png"]
    assert [name.split("/")[-1] for name in pictures.values] == ["bias", "bias"]


def test_bad_input_is_refused(tmp_path):
    for options in ({"workers": 0}, {"every": 0}):
        with pytest.raises(ValueError, match=r"GradientHistograms: .*at least 1"):
            histograms(tmp_path, **options)
    for options in ({"workers": True}, {"every": 1.5}):
        with pytest.raises(TypeError, match=r"GradientHistograms: .*at least 1"):
            histograms(tmp_path, **options)
    with pytest.raises(ValueError, match="multiple of 3 examples"):
        histograms(tmp_path, workers=3)
    with pytest.raises(TypeError, match="compression="):
        histograms(tmp_path, compression="terngrad")
    x, y = classification(40)
    with pytest.raises(ValueError, match="No variable fits"):
        compiled(small_model()).fit(x, y, verbose=0, callbacks=[histograms(tmp_path, variables=["conv*"])])

"""A path of budgets: each network is within its own, and what has left for one is gone for all that follow."""

import keras
import numpy as np
import pytest
from test_dead import X, Y, momentum, network

import tf_terngrad as tt

SHARES = (0.6, 0.4, 0.2)


def trained(model):
    model.fit(X, Y, batch_size=32, epochs=2, verbose=0)
    return model.evaluate(X, Y, verbose=0)


@pytest.fixture(scope="module")
def found():
    model = network()
    model.compile(momentum(), "mse")
    return model, tt.sweep(model, [tt.Budget(multiply_adds=share) for share in SHARES], trained)


def test_each_point_is_within_its_budget_and_has_the_outputs_that_were_measured(found):
    model, sweep = found
    whole = tt.costs(network()).multiply_adds
    for share, point in zip(SHARES, sweep.points, strict=True):
        assert 0.8 * share <= point.costs.multiply_adds / whole <= share
        assert point.costs.multiply_adds == tt.costs(point.model).multiply_adds
        error = keras.ops.convert_to_numpy(point.model(X))[:, 0] - Y[:, 0]
        np.testing.assert_allclose(np.square(error).mean(), point.measure, rtol=1e-4)
    np.testing.assert_allclose(model.predict(X, verbose=0), point.model.predict(X, verbose=0), atol=1e-5)


def test_widths_only_fall(found):
    widths = [[point.model.get_layer(name).units for name in "ab"] for point in found[1].points]
    assert (np.diff(widths, axis=0) <= 0).all() and widths[0] != widths[-1]


def test_its_table_and_its_picture(found, tmp_path):
    lines = str(found[1]).splitlines()
    assert lines[0].split() == ["point", "multiply-adds", "measure"] and len(lines) == 4
    assert lines[3].split()[1] == f"{found[1].points[2].costs.multiply_adds / found[1].whole.multiply_adds:.1%}"
    found[1].plot(tmp_path / "curve.png")
    found[1].plot(tmp_path / "curve.svg")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG") and b"<svg" in (
        tmp_path / "curve.svg"
    ).read_bytes()


@pytest.mark.parametrize(
    ("budgets", "train", "error", "sentence"),
    [
        ([], trained, ValueError, "at least one budget"),
        ([0.5], trained, TypeError, "expected `budgets` to be a tt.Budget"),
        ([tt.Budget(multiply_adds=0.9)], lambda model: model.fit(X, Y, verbose=0), TypeError, "expected `train`"),
    ],
)
def test_mistakes_are_refused(budgets, train, error, sentence):
    model = network()
    model.compile(momentum(), "mse")
    with pytest.raises(error, match=sentence):
        tt.sweep(model, budgets, train)

"""What a proximal step makes of a model's weights, foreseen in NumPy: without gradients each update is its step."""

import keras
import numpy as np
from group_oracles import shrunk

from tf_terngrad.sparsity.structures import structures

RATE, STRENGTH = 0.1, 0.5


def nothing(targets, outputs):
    """A loss with gradients of zero: an update then is its proximal step."""
    return 0 * keras.ops.mean(outputs, axis=-1)


def weights_of(model, names):
    return [weight for name in names for weight in model.get_layer(name).weights]


class Watch:
    """Foresees what one proximal step makes of the weights, and compares with what an update made of them."""

    def __init__(self, model):
        self.model = model
        self.updates = 0
        self.expect()

    def expect(self, names=None, rate=RATE, steps=1):
        """From now on these layers, or all, shrink at each update, by so many steps, and no others."""
        names = [layer.name for layer in self.model.layers] if names is None else names
        self.moved, self.rate, self.steps = names, rate, steps
        self._foresee()

    def _foresee(self):
        found = structures(self.model)
        arrays = shrunk(found, self.rate * STRENGTH * self.steps)
        moved = {id(weight) for weight in weights_of(self.model, self.moved)}
        self.expected = [
            arrays.get(id(weight), weight.numpy()) if id(weight) in moved else weight.numpy()
            for weight in self.model.weights
        ]

    def check(self):
        """After an update."""
        self.updates += 1
        for weight, expected in zip(self.model.weights, self.expected, strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6, err_msg=weight.path)
        self._foresee()

    def callback(self):
        return keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: self.check())

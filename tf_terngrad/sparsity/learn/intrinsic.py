"""The layer wrapper that makes all weights of a hidden unit zero together: intrinsic sparse structures."""

import keras
from keras import ops

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import penalties
from tf_terngrad.sparsity.learn.shared_penalty import penalize_together
from tf_terngrad.sparsity.rules import register_rule, rule_for
from tf_terngrad.sparsity.rules.cells import GatedCell, StackedCells
from tf_terngrad.sparsity.rules.compositions import Wrapped
from tf_terngrad.sparsity.rules.convolutional_recurrent import ConvolutionalCell
from tf_terngrad.sparsity.rules.recurrent import Bidirectional, Recurrent


@keras.saving.register_keras_serializable(package="tf_terngrad")
class IntrinsicSparse(keras.layers.Wrapper):
    """A recurrent layer whose hidden units vanish whole (ISS, Wen et al., ICLR 2018).

    Use it when a recurrent layer should learn how many hidden units it needs.

    `strength · Σ_k sqrt(Σ_{w in g_k} w² + 1e-8)` joins the layer's losses. The group `g_k` is what unit `k` has in
    the layer: its column of every gate in the kernel and in the recurrent kernel, its biases and its row of the
    recurrent kernel; a weight from one unit to another is in the groups of both. The rows of its readers belong to
    other layers: `tt.sparsify(model, strength, kinds=["hidden"])` takes them in, as the paper does.

    The penalty's subgradient only comes near zero. For units that `tt.compact` finds, train with
    `tt.callbacks.ZeroSmallWeights(1e-3)` and a learning rate that falls to zero; `tt.sparsify` needs neither.

    Args:
        layer: An `LSTM`, `GRU` or `SimpleRNN`, an `RNN` of their cells, or a `Bidirectional` of these.
        strength: At least 0, in the loss's unit.
        **kwargs: `name` and the like, as any Keras layer takes them. The type defaults to the layer's own.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `layer` is of another type, or `strength` is negative, NaN or infinite; inside a
            `Bidirectional`, which belongs inside of this wrapper.

    >>> simple = keras.layers.SimpleRNN(2, kernel_initializer="ones", recurrent_initializer="zeros")
    >>> layer = IntrinsicSparse(simple, strength=0.5)
    >>> outputs = layer(ops.ones((1, 5, 4)))
    >>> [round(float(loss), 3) for loss in layer.losses]  # 0.5 · (2 + 2), on the kernel; the others add nothing more
    [2.0, 0.0, 0.0]
    """

    def __init__(self, layer, strength, **kwargs):
        if None in _gated_cells(layer):
            raise ValueError(
                "IntrinsicSparse: `layer` must be an LSTM, GRU or SimpleRNN, an RNN of their cells, or a Bidirectional "
                f"of these. Received: layer={layer!r}. For a cell of your own, write a rule and use `tt.sparsify`."
            )
        if "go_backwards" in kwargs:
            raise ValueError(
                f"IntrinsicSparse of layer '{layer.name}': a Bidirectional cannot turn a wrapper round. Wrap the "
                "Bidirectional: IntrinsicSparse(Bidirectional(layer), strength)."
            )
        strength = checks.number(strength, "strength", f"IntrinsicSparse of layer '{layer.name}'")
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.strength = strength
        self.autocast = layer.autocast
        self.supports_masking = True

    def build(self, sequences_shape, initial_state_shape=None):
        """Builds the layer and makes the weights of each cell's units groups."""
        if self.built:
            return
        super().build(sequences_shape)
        for cell in _gated_cells(self.layer):
            weights = [weight for weight in (cell.kernel, cell.recurrent_kernel, cell.bias) if weight is not None]
            penalize_together(weights, lambda training, cell=cell: self._penalty(cell, training))

    def call(self, sequences, initial_state=None, mask=None, training=None):
        """What the layer does."""
        return self.layer(sequences, initial_state=initial_state, mask=mask, training=training)

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        """The layer's output shape."""
        return self.layer.compute_output_shape(sequences_shape)

    def compute_mask(self, inputs, previous_mask=None):
        """The layer's mask."""
        return self.layer.compute_mask(inputs, previous_mask)

    def reset_state(self):
        """Sets what a stateful layer keeps between batches to zero."""
        self.layer.reset_state()

    def get_config(self):
        """The layer and the strength."""
        return {**super().get_config(), "strength": self.strength}

    def _penalty(self, cell, weights):
        sums = sum(unit_squared_sums(weight, cell.units) for weight in weights if weight is not cell.recurrent_kernel)
        if any(weight is cell.recurrent_kernel for weight in weights):
            sums = sums + recurrent_squared_sums(cell.recurrent_kernel)
        return self.strength * ops.sum(penalties.smooth_norms(sums))


def unit_squared_sums(weight, units):
    """Sum of squares of each unit's columns, of a weight `(..., gates * units)`; tensor of shape `(units,)`.

    >>> unit_squared_sums(ops.array([[1.0, 2.0, 3.0, 4.0]]), units=2).numpy().tolist()
    [10.0, 20.0]
    """
    return ops.sum(ops.reshape(penalties.squared_sums(weight, (-1,)), (-1, units)), axis=0)


def recurrent_squared_sums(kernel):
    """Sum of squares of each unit's columns and row, what lies in both once, of a kernel `(units, gates * units)`.

    >>> recurrent_squared_sums(ops.array([[1.0, 2.0], [3.0, 4.0]])).numpy().tolist()
    [14.0, 29.0]
    """
    units = kernel.shape[0]
    gates = ops.reshape(kernel, (units, -1, units))
    own = penalties.squared_sums(ops.diagonal(gates, axis1=0, axis2=2), (-1,))
    return unit_squared_sums(kernel, units) + penalties.squared_sums(kernel, (0,)) - own


def _gated_cells(layer):
    """The cells inside a recurrent layer; None for each of an unknown type."""
    rule = rule_for(layer) if isinstance(layer, keras.Layer) else None
    if isinstance(rule, (Bidirectional, Recurrent, StackedCells)):
        return [cell for inner in rule.held(layer) for cell in _gated_cells(inner)]
    gated = isinstance(rule, GatedCell) and not isinstance(rule, ConvolutionalCell)
    return [layer if gated else None]


register_rule(IntrinsicSparse, Wrapped())

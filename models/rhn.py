"""The recurrent highway network: a cell of one's own, the rule by which its hidden units leave, and what it costs.

The rule is all that `tt.sparsify` and `tt.compact` need for a cell that they do not know; the cost is for reports.
"""

import math

import keras
import numpy as np
from keras import ops

import tf_terngrad as tt
from models.embedding import embedding_and_logits, uniform
from models.registry import WORDS, network


@keras.saving.register_keras_serializable("models")
class HighwayCell(keras.layers.Layer):
    """One step of a recurrent highway network.

        s' = s_L,   s_0 = s,   s_l = h_l t_l + s_(l-1) (1 - t_l),   l = 1 .. L
        h_l = tanh(x W_h [l = 1] + s_(l-1) U_hl + b_hl)
        t_l = sigmoid(x W_t [l = 1] + s_(l-1) U_tl + b_tl)

    Args:
        units: width of the state.
        depth: L, layers within a step.
        carry: initial value of all b_tl; below zero, a new network hands its state on.
        initializer: of the kernels.
        **kwargs: those of `keras.layers.Layer`.

    Paper: Zilly et al., Recurrent highway networks, 2017.
    """

    def __init__(self, units, depth=10, carry=-2.0, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units, self.depth, self.carry = units, depth, carry
        self.initializer = keras.initializers.get(initializer)
        self.state_size = self.output_size = units

    def build(self, input_shape):
        """Kernel (in, 2 units), and for each layer a recurrent kernel (units, 2 units) and a bias: h, then t."""

        def weight(name, rows):
            # A clone, for one initializer gives equal values to all that share it.
            return self.add_weight((rows, 2 * self.units), initializer=self.initializer.clone(), name=name)

        self.kernel = weight("kernel", input_shape[-1])
        self.recurrent_kernels = [weight(f"recurrent_kernel{layer}", self.units) for layer in range(self.depth)]
        start = np.repeat([0.0, self.carry], self.units)
        self.biases = [
            self.add_weight((2 * self.units,), initializer=lambda shape, dtype=None: start, name=f"bias{layer}")
            for layer in range(self.depth)
        ]

    def call(self, inputs, states, training=False):
        """The state after a step, as output and as state."""
        (state,) = states
        entering = ops.matmul(inputs, self.kernel)
        for layer, (kernel, bias) in enumerate(zip(self.recurrent_kernels, self.biases, strict=True)):
            both = ops.matmul(state, kernel) + bias + (entering if layer == 0 else 0)
            new, gate = ops.split(both, 2, axis=-1)
            gate = ops.sigmoid(gate)
            state = ops.tanh(new) * gate + state * (1 - gate)
        return state, [state]

    def get_initial_state(self, batch_size=None):
        """Zeros."""
        return [ops.zeros((batch_size, self.units), self.compute_dtype)]

    def get_config(self):
        """The arguments."""
        initializer = keras.initializers.serialize(self.initializer)
        own = {"units": self.units, "depth": self.depth, "carry": self.carry, "initializer": initializer}
        return super().get_config() | own


class HighwayCellRule(tt.rules.Cell):
    """A hidden unit: of every layer its column of h, its column of t and its row; of the first, its columns of W."""

    def step(self, call, cell, entering, at_rest):
        """The state is the output; what a unit emits is not followed."""
        units = call.graph.born(cell.recurrent_kernels[0], 0, cell.units)
        columns = np.tile(units, 2)
        state = tt.rules.Channels.of(units)
        call.label(cell.kernel, -1, columns, "kernel", produced=True)
        call.matmul(cell.kernel, entering, columns, foldable=False)
        for kernel, bias in zip(cell.recurrent_kernels, cell.biases, strict=True):
            call.label(kernel, -1, columns, "kernel")
            call.label(bias, -1, columns, "bias")
            call.matmul(kernel, state, columns)
        return state, [state]

    def cell_config(self, call, cell, kept):
        """As many units as are kept."""
        return cell.get_config() | {"units": call.width(cell.recurrent_kernels[0], 0, kept)}

    def multiply_adds(self, cell, output, inputs, *args, **kwargs):
        """Each weight of the kernels, once for each text."""
        return inputs.shape[0] * sum(math.prod(kernel.shape) for kernel in (cell.kernel, *cell.recurrent_kernels))


tt.register_rule(HighwayCell, HighwayCellRule())


@network(WORDS, recipe={"units": ["200"]}, one_layer=True)
def rhn(
    vocabulary: int = 10_000,
    units: int = 830,
    depth: int = 10,
    dropout: float = 0.0,
    tied: bool = True,
    batch_size: int | None = None,
    steps: int | None = None,
    stateful: bool = False,
) -> keras.Model:
    """Embedding - recurrent highway layer - logits, with dropout before and behind the layer.

    23,472,400 parameters with the defaults. Tied, a hidden unit and a column of the embedding are one structure.

    Args:
        vocabulary: number of words.
        units: width of the state and of the embedding.
        depth: layers within a step.
        dropout: share of the values that are dropped, 0 to 1.
        tied: whether the logits are products with the embedding itself.
        batch_size: how many texts at once; `stateful` needs it.
        steps: words of each text at once; None: any number.
        stateful: whether a batch goes on where the one before has stopped.

    Returns:
        A Functional model from words (batch, steps) int32 to logits (batch, steps, vocabulary) of the next words.

    >>> rhn(vocabulary=100, units=8, depth=2).count_params()
    1216

    Papers: Zilly et al., Recurrent highway networks, 2017; Wen et al., Learning intrinsic sparse structures within long
    short-term memory, 2018.
    """
    initial = uniform(units, 830)
    words = keras.Input(batch_shape=(batch_size, steps), dtype="int32", name="words")
    embed, logits = embedding_and_logits(vocabulary, units, tied, initial)
    x = keras.layers.Dropout(dropout, name="dropout1")(embed(words))
    cell = HighwayCell(units, depth, initializer=initial, name="cell")
    x = keras.layers.RNN(cell, return_sequences=True, stateful=stateful, name="highway")(x)
    x = keras.layers.Dropout(dropout, name="dropout2")(x)
    return keras.Model(words, logits(x), name="rhn")

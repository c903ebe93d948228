"""Keras layer wrappers that make the groups inside one layer zero together, across its weights.

The one for recurrent layers is in intrinsic. Groups that span several layers are not here: see sparsify.
"""

import keras
from keras import ops

from tf_terngrad import checks
from tf_terngrad.sparsity.learn import penalties
from tf_terngrad.sparsity.learn.attention_mask import AttentionMask
from tf_terngrad.sparsity.learn.intrinsic import IntrinsicSparse
from tf_terngrad.sparsity.learn.shared_penalty import penalize_together
from tf_terngrad.sparsity.learn.sparse_attention import SparseAttention
from tf_terngrad.sparsity.rules import register_rule, rule_for
from tf_terngrad.sparsity.rules.compositions import Residual, Wrapped

__all__ = ["AttentionMask", "GroupSparse", "IntrinsicSparse", "SkippableBranch", "SparseAttention"]

_register = keras.saving.register_keras_serializable(package="tf_terngrad")


@_register
class GroupSparse(keras.layers.Wrapper):
    """A layer whose output units vanish whole, kernel column and bias together.

    Use it when a layer should learn how many outputs it needs, and its bias should not keep a dead output alive.

    `strength · Σ_j sqrt(‖W[..., j]‖² + b_j² + 1e-8)` joins the layer's losses (SSL, Wen et al., NIPS 2016; group lasso,
    Yuan and Lin, 2006): a filter with its bias, or whichever weights lead to output `j` alone. A separable
    convolution's depthwise kernel belongs to no output and is left out; all regularizers that the layer has count as
    ever.

    Args:
        layer: A `Dense`, `EinsumDense`, `Embedding` or any plain, transposed, depthwise or separable convolution;
            or a layer whose rule gives the axes of its weights, see `tt.register_rule`.
        strength: At least 0, in the loss's unit.
        **kwargs: `name` and the like, as any Keras layer takes them. The type defaults to the layer's own.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `layer` is another one, or `strength` is negative, NaN or infinite;
            at build, if the layer has a weight that belongs to no single output.

    >>> layer = GroupSparse(keras.layers.Dense(2, kernel_initializer="ones"), strength=0.5)
    >>> outputs = layer(ops.ones((1, 4)))
    >>> [round(float(loss), 3) for loss in layer.losses]  # 0.5 · (2 + 2), on the kernel; the bias adds nothing more
    [2.0, 0.0]
    """

    def __init__(self, layer, strength, **kwargs):
        if not isinstance(layer, keras.Layer) or not _makes_outputs(layer):
            raise ValueError(
                "GroupSparse: expected `layer` to be a Dense, EinsumDense, Embedding or convolution, or a layer of "
                f"your own whose rule names its axes. Received: layer={layer!r}. For a recurrent layer use "
                "`IntrinsicSparse`, for a whole block of layers `SkippableBranch`."
            )
        strength = checks.number(strength, "strength", f"GroupSparse of layer '{layer.name}'")
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, **kwargs)
        self.strength = strength
        self.autocast = layer.autocast
        self.supports_masking = layer.supports_masking

    def build(self, input_shape=None):
        """Builds the layer and finds the weights of its outputs."""
        if self.built:
            return
        super().build(input_shape)
        self._outputs = {id(weight): axes.outputs for weight, axes in self._output_axes()}
        penalize_together([weight for weight, _ in self._output_axes()], self._penalty)

    def call(self, inputs):
        """What the layer does."""
        return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        """The layer's output shape."""
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs):
        """The layer's output: a layer of one's own need not say its shape."""
        return self.layer.compute_output_spec(inputs)

    def compute_mask(self, inputs, previous_mask=None):
        """The layer's mask."""
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self):
        """The layer and the strength."""
        return {**super().get_config(), "strength": self.strength}

    def _output_axes(self):
        known = {name: axes for name, axes in rule_for(self.layer).axes(self.layer).items() if axes.outputs}
        for weight in self.layer.weights:
            if weight.name not in known:
                raise ValueError(
                    f"GroupSparse: weight '{weight.path}' of shape {tuple(weight.shape)} belongs to no single output "
                    f"of layer '{self.layer.name}'. Expected only weights named {', '.join(known)}, and a bias for "
                    "every output. Remove the weight (a bias with `use_bias=False`, or give `bias_axes` all the axes "
                    "that the kernel makes), or use a regularizer on the kernel alone."
                )
            if not known[weight.name].inner:
                yield weight, known[weight.name]

    def _penalty(self, weights):
        sums = [ops.ravel(penalties.squared_sums(weight, self._outputs[id(weight)])) for weight in weights]
        return self.strength * ops.sum(penalties.smooth_norms(sum(sums)))


@_register
class SkippableBranch(keras.layers.Layer):
    """A residual branch that may vanish whole: `x + branch(x)`.

    Use it when a network should learn how deep it has to be.

    All weights `w` of the branch that train are one group; `strength · sqrt(Σ w² + 1e-8)` joins the layer's losses.
    When the branch is dead the shortcut remains, and depth is learned (SSL, Wen et al., NIPS 2016).

    Args:
        branch: A Keras layer or model, or a list of layers called one after the other. Its output has its input's
            shape.
        strength: At least 0, in the loss's unit. The paper uses 0.007 for ResNet-20 on CIFAR-10.
        name: The layer's name.
        **kwargs: What else any Keras layer takes. The type defaults to the branch's own.

    Raises:
        TypeError: If `strength` is no number.
        ValueError: If `branch` is none of these, or `strength` is negative, NaN or infinite;
            at build, if the branch changes the shape or has no weights.

    >>> layer = SkippableBranch([keras.layers.Dense(2, kernel_initializer="zeros")], strength=1e-3)
    >>> layer(ops.ones((1, 2))).numpy().tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, branch, strength, name=None, **kwargs):
        branch = _as_layer(branch)
        strength = checks.number(strength, "strength", f"SkippableBranch of '{branch.name}'")
        kwargs.setdefault("dtype", branch.dtype_policy)
        super().__init__(name=name, **kwargs)
        self.branch = branch
        self.strength = strength
        self.supports_masking = True

    def build(self, input_shape):
        """Builds the branch and makes its weights one group."""
        if self.built:
            return
        if not self.branch.built:
            self.branch.build(input_shape)
        self._check_shapes(input_shape, self.branch.compute_output_shape(input_shape))
        if not self.branch.weights:
            raise ValueError(
                f"SkippableBranch '{self.name}': branch '{self.branch.name}' has no weights to learn whether it is "
                f"needed. Expected at least one layer with weights. Received: branch={self.branch!r}. Without weights, "
                "`keras.layers.Add()([x, branch(x)])` does the same."
            )
        penalize_together(self.branch.weights, self._penalty)

    def call(self, inputs):
        """`inputs + branch(inputs)`."""
        outputs = self.branch(inputs)
        self._check_shapes(inputs.shape, outputs.shape)
        return ops.add(inputs, outputs)

    def compute_output_shape(self, input_shape):
        """The shape does not change."""
        return input_shape

    def get_config(self):
        """The branch and the strength."""
        branch = keras.saving.serialize_keras_object(self.branch)
        return {**super().get_config(), "branch": branch, "strength": self.strength}

    @classmethod
    def from_config(cls, config):
        """The layer from its serialized branch and strength."""
        return cls(**{**config, "branch": keras.saving.deserialize_keras_object(config["branch"])})

    def _check_shapes(self, inputs, outputs):
        inputs, outputs = tuple(inputs), tuple(outputs)
        agree = all(None in pair or pair[0] == pair[1] for pair in zip(inputs, outputs, strict=False))
        if len(inputs) != len(outputs) or not agree:
            raise ValueError(
                f"SkippableBranch '{self.name}': branch '{self.branch.name}' must keep the shape of its input, so "
                f"that x + branch(x) exists. Received: input shape {inputs}, output shape {outputs}. Use stride 1, "
                "`padding='same'` and as many filters as the input has channels."
            )

    def _penalty(self, weights):
        return self.strength * penalties.smooth_norms(sum(penalties.squared_sums(weight, ()) for weight in weights))


def _makes_outputs(layer):
    """Whether a rule knows which axes of a layer's weights count its outputs."""
    return any(axes.makes_outputs for axes in rule_for(layer).axes(layer).values())


def _as_layer(branch):
    layers = branch if isinstance(branch, (list, tuple)) else [branch]
    if not layers or not all(isinstance(layer, keras.Layer) for layer in layers):
        raise ValueError(
            "SkippableBranch: `branch` must be a Keras layer or model, or a list of at least one layer. "
            f"Received: branch={branch!r}"
        )
    return branch if isinstance(branch, keras.Layer) else keras.Sequential(layers)


register_rule(GroupSparse, Wrapped())
register_rule(SkippableBranch, Residual())

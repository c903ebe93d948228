"""The layers that `keras.applications` defines for itself."""

import numpy as np

from tf_terngrad.keras_internals import CustomScaleLayer, LayerScale, StochasticDepth
from tf_terngrad.sparsity.rules.axes import EACH
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.elementwise import Passing, Sum
from tf_terngrad.sparsity.rules.registry import register_rule


class Scale(Rule):
    """y = gamma * x, with a learnt number for each channel.

    Use it when a layer of your own multiplies each channel by a learnt number.
    """

    def axes(self, layer):
        return {"gamma": EACH}

    def follow(self, call):
        gamma, edge = call.layer.gamma, call.inputs[0]
        call.output.axes = [channels and channels.unknown() for channels in edge.axes]
        channels = edge.axes[-1]
        if channels is None:
            return
        call.label(gamma, 0, channels.units, "scale")
        if call.graph.tolerance is not None:
            scale = call.graph.value(gamma)
            values = np.where(np.abs(scale) <= call.graph.tolerance, 0.0, scale * channels.values)
            call.output.axes[-1] = channels.with_values(values)

    def config(self, call, kept):
        config, channels = call.layer.get_config(), call.output.axes[-1]
        return config if channels is None else {**config, "projection_dim": kept.width(channels)}

    def multiply_adds(self, layer, output, inputs):
        return 0


register_rule(LayerScale, Scale())
register_rule(StochasticDepth, Passing())
register_rule(CustomScaleLayer, Sum(first_stays=True))

"""Space to depth and back: blocks of pixels become channels."""

import numpy as np

from tf_terngrad.keras_internals import operations
from tf_terngrad.sparsity.rules.base import Rule
from tf_terngrad.sparsity.rules.pooling import channel_axis
from tf_terngrad.sparsity.rules.registry import register_rule


class Blocks(Rule):
    """What both do: channels along space freeze, the channel axis is another one."""

    def follow(self, call):
        edge = call.inputs[0]
        axis = channel_axis(call.layer, len(edge.shape))
        for other, channels in enumerate(edge.axes):
            if channels is not None and other != axis:
                call.freeze_axis(channels, "it cuts this axis into blocks")
        if edge.axes[axis] is not None:
            call.output.axes[axis] = self.channels(call, edge.axes[axis], call.layer.block_size**2)

    def channels(self, call, channels, places):
        """The channels that leave, of those that enter, for blocks of so many places."""
        raise NotImplementedError


class SpaceToDepth(Blocks):
    """Channel place * channels + c of the output is channel c of the input, at one place of a block."""

    def channels(self, call, channels, places):
        return channels[np.tile(np.arange(len(channels)), places)]


class DepthToSpace(Blocks):
    """Channel c of the output is made of channels place * channels + c of the input: these leave together."""

    def channels(self, call, channels, places):
        rows = np.arange(len(channels)).reshape(places, -1)
        for row in rows[1:]:
            call.graph.units.tie(channels.units[rows[0]], channels.units[row])
        values = channels.values[rows]
        return channels[rows[0]].with_values(np.where((values == values[0]).all(0), values[0], np.nan))


for _type in operations("SpaceToDepth"):
    register_rule(_type, SpaceToDepth())
for _type in operations("DepthToSpace"):
    register_rule(_type, DepthToSpace())

"""What the transformers share: sizes that differ from block to block. It is no network of its own."""

from collections.abc import Sequence

import keras


def per_block(size: int | Sequence[int], blocks: int) -> tuple[int, ...]:
    """A size for each block: one number is that of all.

    Raises:
        ValueError: another number of sizes than of blocks.

    >>> per_block(4, blocks=2)
    (4, 4)
    """
    sizes = (size,) * blocks if isinstance(size, int) else tuple(size)
    if len(sizes) != blocks:
        raise ValueError(f"Expected one size, or one for each of {blocks} blocks. Received: {sizes}")
    return sizes


def sizes_of(model: keras.Model) -> dict:
    """What `decoder_lm` and `vit` need to build a model of the sizes of this one, which `tt.compact` may have made.

    A block whose attention is gone has 0 heads, one whose units are gone 0 units.
    """
    layers = {layer.name: layer for layer in model.layers}
    blocks = sorted({name.split("_")[0] for name in layers if name.startswith("block")})
    attentions = [layers.get(f"{block}_attention") for block in blocks]
    feeds = [layers.get(f"{block}_units") for block in blocks]
    sizes = {
        "width": layers["norm"].output.shape[-1],
        "units": tuple(feed.units if feed else 0 for feed in feeds),
        "heads": tuple(layer.num_heads if layer else 0 for layer in attentions),
        "keys": tuple(layer.key_dim if layer else 1 for layer in attentions),
        "values": tuple(layer.value_dim if layer else 1 for layer in attentions),
    }
    return sizes | ({"stem": layers["stem"].filters} if "stem" in layers else {})

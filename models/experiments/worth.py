"""What members of each structure are worth: the strength above which they cost the loss less than the penalty."""

import keras
import numpy as np

import tf_terngrad as tt


def worth(model: keras.Model, examples: tuple[np.ndarray, np.ndarray], members: int = 6, seed: int = 0) -> str:
    """A Markdown table: of some members of each structure the median of (loss without it - loss) / its norm.

    Args:
        model: to logits; it keeps its weights.
        examples: inputs and labels.
        members: how many of each structure are tried.
        seed: of which ones.
    """
    weights, before = model.get_weights(), _loss(model, *examples)
    random = np.random.default_rng(seed)
    lines = ["| structure | kind | members | weights a member | norm | strength |", "|---|---|---|---|---|---|"]
    for structure in tt.structures(model):
        norms, found = structure.norms(), []
        for member in random.permutation(structure.size)[:members]:
            structure.zero([member])
            found.append((_loss(model, *examples) - before) / norms[member])
            model.set_weights(weights)
        size = sum(np.prod(piece.variable.shape) for piece in structure.penalized) // structure.size
        lines.append(
            f"| {structure.name} | {structure.kind} | {structure.size} | {size:,} | {norms.mean():.2f} "
            f"| {np.median(found):.5f} |"
        )
    return "\n".join(lines)


def _loss(model, inputs, labels):
    """The mean cross entropy."""
    logits = model.predict(inputs, batch_size=500, verbose=0)
    return float(np.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)))

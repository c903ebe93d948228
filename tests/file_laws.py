"""The laws of saved models: a file gives the same model, before and after compaction."""

import hypothesis
import keras
from laws import difference, fresh_inputs, outputs_of, random_members, shapes, written, zero_members

from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.remove.needs import needs


def check_files(model, folder, classes, seed):
    """The file of a model that can be written compacts as the model does, and that of the compact model is the same.

    Args:
        model: with weights as they come; members of it are zeroed.
        folder: to write into.
        classes: the classes of the user's, by name, that a loader has if the compact model asks for them.
        seed: of the members.
    """
    loaded = _loaded(model, folder, classes) if _has_a_file(model) else None
    smaller = []
    for each in filter(None, (model, loaded)):
        zero_members(each, random_members(seed))
        smaller.append(compact(each))
    assert shapes(smaller[0]) == shapes(smaller[-1])
    hypothesis.assume(_has_a_file(smaller[0]))
    asked = {name: kind for name, kind in classes.items() if f"({name})" in needs(smaller[0])}
    loaded = _loaded(smaller[0], folder, asked)
    if not asked:  # Keras freezes a user's layer before the parts in it are made, so that a file thaws them
        frozen, others = ([weight.trainable for weight in each.weights] for each in (smaller[0], loaded))
        assert frozen == others


def _has_a_file(model):
    """Whether a model can be written down, and nothing in it is a function that nobody can give to the loader."""
    return written(model) is not None and not any(name in needs(model) for name in ("<lambda>", "functools.partial"))


def _loaded(model, folder, classes):
    """A model from its file, which gives the same outputs."""
    inputs, path = fresh_inputs(model), folder / "model.keras"
    model.save(path)
    keras.backend.clear_session(free_memory=False)  # names start anew, as where a saved model is loaded
    loaded = keras.models.load_model(path, custom_objects=classes)
    for expected, got in zip(outputs_of(model, inputs), outputs_of(loaded, inputs), strict=True):
        assert difference(expected, got) <= 1e-5
    assert shapes(model) == shapes(loaded)
    return loaded

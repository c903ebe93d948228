"""Regularizers of this package that users gave to layers go on in the smaller model, on what stays of the weights.

`compact` leaves them out, for its model is stock Keras. Their groups are slices along axes, without a factor for sizes:
a group that lost only zeros has the norm that it had, and groups that left had none.
"""

from tf_terngrad.keras_internals import all_layers
from tf_terngrad.sparsity.learn import hooks
from tf_terngrad.sparsity.learn.regularizers import BlockLasso
from tf_terngrad.sparsity.learn.structured_regularizer import SumRegularizer


def is_ours(penalty) -> bool:
    """Whether a regularizer, or a part of a sum, is of this package."""
    return any(type(part).__module__.startswith("tf_terngrad.") for part in _parts(penalty))


def check(variable, penalty) -> None:
    """Refuse a regularizer whose groups would hold other weights in a smaller model."""
    if any(isinstance(part, BlockLasso) for part in _parts(penalty)):
        raise ValueError(
            f"reconfigure: the BlockLasso of weight {variable.path!r} would have other blocks in a smaller matrix. Use "
            "another regularizer or tt.sparsify, or tt.compact after the training."
        )


class LayerPenalties:
    """What a model's layers have of this package's regularizers, to be put on what the model becomes.

    Args:
        model: before anything leaves.
    """

    def __init__(self, model):
        under = [(variable, hooks.under(getattr(variable, "regularizer", None))) for variable in model.variables]
        self._on_variables = [(variable, penalty) for variable, penalty in under if is_ours(penalty)]
        self._of_layers = [
            (type(layer), layer.variables, name, value)
            for layer in all_layers(model)
            for name, value in vars(layer).items()
            if name.endswith("_regularizer") and is_ours(value) and layer.variables
        ]

    def move(self, model, moves):
        """Put them on a model that has become smaller: on the variables, and where configurations are written from."""
        for variable, penalty in self._on_variables:
            new = moves.new(variable)
            if new is not None:
                new.regularizer = penalty
        for kind, variables, name, penalty in self._of_layers:
            new = {id(moves.new(variable)) for variable in variables}
            for layer in all_layers(model):
                if type(layer) is kind and new >= {id(each) for each in layer.variables}:
                    vars(layer)[name] = penalty


def _parts(penalty):
    return penalty.regularizers if isinstance(penalty, SumRegularizer) else [penalty]

"""What an optimizer counts and keeps, where it accumulates, and what a model knows of its loss."""

import keras


def note_compute_loss(model, takes_training: bool) -> None:
    """Tell a model whether its `compute_loss` takes `training`; Keras reads that when the model is made."""
    model._compute_loss_has_training_arg = takes_training


def batches_seen(optimizer):
    """The variable that counts batches; the public `iterations` counts updates where gradients accumulate."""
    return optimizer._iterations


def trainable_variables(optimizer) -> list:
    """The variables that an optimizer was built for; it shows only its own."""
    return optimizer._trainable_variables


class Slots:
    """What an optimizer keeps for one variable.

    Keras keeps it in lists that have other private names in each class; their own names are made from the variable's.

    Args:
        optimizer: a built optimizer.
        position: of the variable among those that it was built for.
    """

    def __init__(self, optimizer, position):
        stems = [_stem(variable) for variable in trainable_variables(optimizer)[: position + 1]]
        self.variable = trainable_variables(optimizer)[position]
        self._stem = stems[-1]
        self._before = stems.count(self._stem) - 1  # layers of nested models may have one path
        self._optimizer = optimizer

    def __call__(self, name=None):
        """The value that `add_optimizer_variables(variables, name)` made for the variable; None: the variable's own."""
        found = self.variable if name is None else self.find(name)
        return keras.ops.cast(keras.ops.convert_to_tensor(found), "float32")

    def find(self, name):
        """The optimizer's variable of this name; None: there is none."""
        found = [slot for slot in self._optimizer.variables if slot.name == f"{self._stem}_{name}"]
        return found[self._before] if found else None


def _stem(variable):
    return (getattr(variable, "path", None) or variable.name.replace(":", "_")).replace("/", "_")


def slots(optimizer, variables) -> list:
    """Pairs of those of some variables that an optimizer was built for, and their `Slots`."""
    known = optimizer._trainable_variables_indices
    keys = [(variable, optimizer._var_key(variable)) for variable in variables]
    return [(variable, Slots(optimizer, known[key])) for variable, key in keys if key in known]


def muon_step(optimizer, rate, momentum):
    """How Muon moves a matrix that has this momentum."""
    step = rate * optimizer.zeropower_via_newtonschulz5(momentum, optimizer.ns_steps)
    if hasattr(optimizer, "lr_adjust"):
        return optimizer.lr_adjust(step)
    return step * max(1, momentum.shape[0] / momentum.shape[1]) ** 0.5  # before Keras 3.12


def between_accumulation_and_clipping(optimizer, note, change) -> None:
    """Have an optimizer clip and apply `change(gradients)` in place of what it has accumulated.

    `apply` sees a batch's own gradients; between accumulation and clipping Keras calls no public method. The first of
    these two methods is told the variables, which `note(variables)` gets; the second the accumulated gradients.
    """
    overwrite, clip = optimizer._overwrite_variables_directly_with_gradients, optimizer._clip_gradients

    def noting(gradients, variables):
        note(variables)
        return overwrite(gradients, variables)

    optimizer._overwrite_variables_directly_with_gradients = noting
    optimizer._clip_gradients = lambda gradients: clip(change(gradients))

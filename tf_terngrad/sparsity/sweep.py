"""A path of budgets: one training from the largest to the smallest network, and what each is worth."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import keras

from tf_terngrad import checks
from tf_terngrad.console import plain_table
from tf_terngrad.files import write
from tf_terngrad.sparsity.budget import Budget
from tf_terngrad.sparsity.compact import compact
from tf_terngrad.sparsity.costs import Total, costs
from tf_terngrad.sparsity.learn.course import BudgetSchedule
from tf_terngrad.sparsity.sparsify import sparsify


@dataclasses.dataclass(frozen=True)
class Point:
    """One network of a path.

    Args:
        budget: the `Budget` that it was trained to.
        model: the compact model.
        costs: what that costs, a `Total`.
        measure: what the training gave for it.
    """

    budget: Budget
    model: keras.Model
    costs: Total
    measure: float


class Sweep:
    """The networks of a path of budgets; `str()` gives a table.

    Use it when you want to choose a size: print it, plot it, take the model of a point.

    Attributes:
        points: a list of `Point`, in the order of the budgets.
        whole: what the model cost at first, a `Total`.
    """

    def __init__(self, points, whole):
        self.points, self.whole = points, whole

    def __str__(self):
        names = self._resources()
        rows = [
            (str(number), *(f"{self._share(point, name):.1%}" for name in names), f"{point.measure:.4g}")
            for number, point in enumerate(self.points)
        ]
        return plain_table(["point", *(name.replace("_", "-") for name in names), "measure"], rows)

    def plot(self, path) -> None:
        """Draw the measure against each resource that has a limit, as a picture.

        Args:
            path: of the picture; its suffix says the format, such as `.png`.
        """
        from tf_terngrad.sparsity.report.drawing import AFTER, blank, rendered  # Matplotlib is long in coming

        names = self._resources()
        drawing = blank(4.5 * len(names), 3.5, facecolor="white")
        for axes, name in zip(drawing.subplots(1, len(names), squeeze=False, sharey=True)[0], names, strict=True):
            shares = [100 * self._share(point, name) for point in self.points]
            axes.plot(shares, [point.measure for point in self.points], marker="o", color=AFTER)
            for number, point in enumerate(self.points):
                axes.annotate(str(number), (shares[number], point.measure), (4, 4), textcoords="offset points")
            axes.set_xlabel(f"{name.replace('_', '-')}, % of the whole model")
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        drawing.axes[0].set_ylabel("measure")
        write(path, rendered(drawing, pathlib.Path(path).suffix.lstrip(".") or "png"))

    def _resources(self):
        return list(dict.fromkeys(name for point in self.points for name in point.budget.given))

    def _share(self, point, name):
        return getattr(point.costs, name) / getattr(self.whole, name)


def sweep(model: keras.Model, budgets: Sequence[Budget], train: Callable, end: float = 0.5, **options) -> Sweep:
    """Train a model to one budget after the other, each from where the one before ended.

    Use it when you do not know yet how small the network may be: one run gives the curve of accuracy over cost, and the
    network of each point.

    Args:
        model: a built and compiled `keras.Model`, best trained already; it ends with the weights of the last point.
        budgets: `Budget`s, each smaller than the one before. Shares are of what the model costs at first.
        train: a function of the model that trains it for one budget with one `fit`, and gives a number, such as its
            accuracy on the validation data.
        end: the share of each training after which its budget is met, see `tt.BudgetSchedule`.
        options: `kinds`, `include`, `exclude`, `round_to` and `input_shapes`, as `tt.sparsify` takes them.

    Returns:
        A `Sweep`; its points keep their compact models.

    Raises:
        TypeError: a budget is no `Budget`, or `train` gives no number.
        ValueError: there is no budget; or as `tt.sparsify`.

    Example:

    ```python
    def train(model):
        model.fit(x, y, verbose=0)
        return model.evaluate(x, y, verbose=0, return_dict=True)["loss"]

    model.compile("adam", "sparse_categorical_crossentropy")
    found = tt.sweep(model, [tt.Budget(multiply_adds=share) for share in (0.8, 0.6)], train)
    print(found)
    found.points[1].model.save("small.keras")
    ```
    """
    budgets = [checks.instance(budget, Budget, "budgets", "sweep") for budget in budgets]
    if not budgets:
        raise ValueError("sweep: expected at least one budget. Received: none")
    input_shapes = options.get("input_shapes")
    whole, points = costs(model, input_shapes), []
    for budget in budgets:
        sparsity = sparsify(model, budget=budget, schedule=BudgetSchedule(begin=0, end=end), **options)
        measure = train(model)
        sparsity.release()
        small = compact(model)
        measure = checks.number(measure, "train", "sweep", least=float("-inf"))
        points.append(Point(budget, small, costs(small, input_shapes), measure))
    return Sweep(points, whole)

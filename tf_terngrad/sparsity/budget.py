"""How much a smaller model may cost."""

import dataclasses

from tf_terngrad import checks
from tf_terngrad.sparsity.costs import Total


@dataclasses.dataclass(frozen=True, repr=False)
class Budget:
    """How much a smaller model may cost at most; of several limits all hold.

    Use it when a size is given, and no strength: with `tt.sparsify` or `tt.prune`.

    Args:
        multiply_adds: for one example. Up to one it is a share of what the model costs now; above, a number.
        parameters: numbers in all variables, likewise.
        bytes: of the TFLite file in float32, likewise.
        bytes_int8: of the int8 file, likewise.
        latency: milliseconds of the float32 file on one thread of this machine, likewise; it is measured in parts.

    Raises:
        TypeError: a limit is no number.
        ValueError: there is none, or one that is not above zero.

    >>> from tf_terngrad.sparsity.costs import costs
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(30), keras.layers.Dense(2)])
    >>> Budget(multiply_adds=0.5, parameters=200).limits(costs(model))
    {'multiply_adds': 90.0, 'parameters': 200.0}
    """

    multiply_adds: float | None = None
    parameters: float | None = None
    bytes: float | None = None
    bytes_int8: float | None = None
    latency: float | None = None

    def __post_init__(self):
        if not self.given:
            names = " or ".join(dataclasses.asdict(self))
            raise ValueError(f"Budget: expected at least one limit, {names}. Received: none")
        for name, value in self.given.items():
            if checks.number(value, name, "Budget") == 0:
                raise ValueError(checks.refusal("Budget", name, "above zero", value))

    def limits(self, whole: Total) -> dict[str, float]:
        """The limits in numbers, by name.

        Args:
            whole: what the model costs now, such as `tt.costs(model)`.
        """
        shares = {name: value * getattr(whole, name) for name, value in self.given.items() if value <= 1}
        return {name: float(shares.get(name, value)) for name, value in self.given.items()}

    def allows(self, total: Total, whole: Total) -> bool:
        """Whether a model that costs `total` is within the limits, of one that costs `whole` now."""
        return all(getattr(total, name) <= limit for name, limit in self.limits(whole).items())

    def check(self, least: Total, whole: Total, owner: str, round_to: int | str = 1) -> None:
        """Refuse a budget that cannot be met.

        Args:
            least: what the model costs at least.
            whole: what it costs now.
            owner: the function that was given the budget.
            round_to: what widths are rounded to.

        Raises:
            ValueError: with the least that is possible.
        """
        if not self.allows(least, whole):
            rounded = "" if round_to == 1 else f", with round_to={round_to!r},"
            raise ValueError(
                f"{owner}: expected a budget that can be met. With the least that can stay of each structure{rounded} "
                f"the model costs {least.in_words(self.given)}. Received: {self}. What cannot shrink, and why, is in "
                "tt.structures(model).frozen."
            )

    def __repr__(self):
        return f"Budget({', '.join(f'{name}={value}' for name, value in self.given.items())})"

    @property
    def given(self) -> dict[str, float]:
        """The limits as they were given, by name of the resource."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

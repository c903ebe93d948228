"""How much a smaller model may cost."""

import dataclasses

from tf_terngrad import checks
from tf_terngrad.sparsity.costs import Costs, Total


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much a smaller model may cost at most; of several limits all hold.

    Use it when a size is given, and no strength: with `tt.prune`.

    Args:
        multiply_adds: for one example. Up to one it is a share of what the model costs now; above, a number.
        parameters: numbers in all variables, likewise.

    Raises:
        TypeError: a limit is no number.
        ValueError: there is none, or one that is not above zero.

    >>> Budget(multiply_adds=0.5, parameters=10_000).limits(Total(multiply_adds=3_000, parameters=20_000))
    {'multiply_adds': 1500.0, 'parameters': 10000.0}
    """

    multiply_adds: float | None = None
    parameters: float | None = None

    def __post_init__(self):
        if not self._given:
            names = " or ".join(dataclasses.asdict(self))
            raise ValueError(f"Budget: expected at least one limit, {names}. Received: none")
        for name, value in self._given.items():
            if checks.number(value, name, "Budget") == 0:
                raise ValueError(checks.refusal("Budget", name, "above zero", value))

    def limits(self, whole: Total | Costs) -> dict[str, float]:
        """The limits in numbers, by name.

        Args:
            whole: what the model costs now.
        """
        shares = {name: value * getattr(whole, name) for name, value in self._given.items() if value <= 1}
        return {name: float(shares.get(name, value)) for name, value in self._given.items()}

    def allows(self, total: Total, whole: Total | Costs) -> bool:
        """Whether a model that costs `total` is within the limits, of one that costs `whole` now."""
        return all(getattr(total, name) <= limit for name, limit in self.limits(whole).items())

    @property
    def _given(self):
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

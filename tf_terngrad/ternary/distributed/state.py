"""Whose exchanges have which state."""

from tf_terngrad.checks import refusal
from tf_terngrad.ternary.compressor import TernGrad
from tf_terngrad.ternary.distributed.loss_scale import exchange_of, inner
from tf_terngrad.ternary.distributed.simulation import simulation_of
from tf_terngrad.ternary.distributed.tape import DistributedGradientTape
from tf_terngrad.ternary.state import ExchangeState, state_of


def exchange_state(what) -> ExchangeState:
    """The state of exchanges: how many there were, which the random bits of the next one depend on.

    Use it when a training that was interrupted shall go on as if it had not been: save the state's variables with the
    model's and the optimizer's, and restore them. A `.keras` file does not hold them.

    Args:
        what: a distributed optimizer, a distributed tape, a model that `simulate` was given; or a `TernGrad`, for what
            travels through Horovod's own functions with this one or one that equals it.

    Raises:
        TypeError: it is none of them.

    Example:

    ```python
    state = tt.distributed.exchange_state(model.optimizer)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, exchange=state)
    ```
    """
    if isinstance(what, TernGrad):
        return state_of(what)
    if isinstance(what, DistributedGradientTape):
        return what.exchange_state
    exchanging = exchange_of(inner(what)) or simulation_of(what)
    if exchanging is None:
        expected = "a distributed optimizer or tape, a simulated model, or a TernGrad"
        raise TypeError(refusal("exchange_state", "what", expected, what))
    return exchanging.state

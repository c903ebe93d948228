"""Training on several workers with Keras 3: one optimizer or tape that averages gradients, and the callbacks for it."""

from tf_terngrad.ternary.collectives import CollectiveTransport, init
from tf_terngrad.ternary.distributed import callbacks, elastic
from tf_terngrad.ternary.distributed.optimizer import DistributedOptimizer
from tf_terngrad.ternary.distributed.simulation import simulate
from tf_terngrad.ternary.distributed.state import exchange_state
from tf_terngrad.ternary.distributed.tape import DistributedGradientTape
from tf_terngrad.ternary.distributed.variables import broadcast_variables, check_replicas
from tf_terngrad.ternary.transport import Transport

__all__ = [
    "CollectiveTransport",
    "DistributedGradientTape",
    "DistributedOptimizer",
    "Transport",
    "broadcast_variables",
    "callbacks",
    "check_replicas",
    "elastic",
    "exchange_state",
    "init",
    "simulate",
]

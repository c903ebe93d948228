"""The networks of the papers, as plain Keras builders. Every one ends in logits, one for each class.

>>> from models import NETWORKS
>>> NETWORKS["lenet"]().output_shape
(None, 10)
"""

from models.cifarnet import cifarnet
from models.lenet import lenet
from models.mlp import mlp
from models.resnet20 import resnet20

NETWORKS = {"cifarnet": cifarnet, "lenet": lenet, "mlp": mlp, "resnet20": resnet20}

__all__ = ["NETWORKS", "cifarnet", "lenet", "mlp", "resnet20"]

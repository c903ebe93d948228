"""The networks of the papers, as plain Keras builders. Every one ends in logits, one for each class or word.

Each module here is a network, which registers itself; a new one needs no other file. It is not the place of data sets,
trainers and the rows of result tables: see `models.data`, `models.training` and `models.experiments`.

>>> from models import NETWORKS
>>> NETWORKS["lenet"]().output_shape
(None, 10)
"""

import importlib
import pkgutil

from models.registry import IMAGES, NETWORKS, QUESTIONS, WORDS, network, networks_of

for module in pkgutil.iter_modules(__path__):
    if not module.ispkg:
        importlib.import_module(f"models.{module.name}")

__all__ = ["IMAGES", "NETWORKS", "QUESTIONS", "WORDS", "network", "networks_of"]

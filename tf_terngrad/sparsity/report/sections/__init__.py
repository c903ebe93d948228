"""The sections of a report, one class each in a file of its own.

To add one, write a class of `Section` in a new file and put an instance in the list below; nothing else knows of it.
A program of your own puts one in `report.sections` instead.
"""

from tf_terngrad.sparsity.report.sections.heads import Attention
from tf_terngrad.sparsity.report.sections.layers import Layers
from tf_terngrad.sparsity.report.sections.notes import Notes
from tf_terngrad.sparsity.report.sections.section import Section
from tf_terngrad.sparsity.report.sections.summary import Summary
from tf_terngrad.sparsity.report.sections.training import Training
from tf_terngrad.sparsity.report.sections.weights import Weights

__all__ = ["SECTIONS", "Section"]

# In the order of the text, of the page and of the picture.
SECTIONS = (Summary(), Layers(), Attention(), Weights(), Training(), Notes())

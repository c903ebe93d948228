"""What left a model: widths, parameters and multiply-adds before and after, as tables, pictures and pages."""

from tf_terngrad.sparsity.report.comparison import compare
from tf_terngrad.sparsity.report.content import Report
from tf_terngrad.sparsity.report.sections import Section

__all__ = ["Report", "Section", "compare"]

"""What left a model: widths, parameters and multiply-adds before and after, as tables, pictures and pages."""

from tf_terngrad.sparsity.report.comparison import compare
from tf_terngrad.sparsity.report.content import Report
from tf_terngrad.sparsity.rules.multiply_adds import register_cost

__all__ = ["Report", "compare", "register_cost"]

"""What a model costs: by layer, by member of a structure, and for any number of members, without building it."""

from tf_terngrad.sparsity.costs.layers import LayerCost, layer_costs
from tf_terngrad.sparsity.costs.members import Costs, StructureCost, Total, costs

__all__ = ["Costs", "LayerCost", "StructureCost", "Total", "costs", "layer_costs"]

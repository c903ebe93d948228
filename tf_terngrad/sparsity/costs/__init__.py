"""What a model costs: by layer, by member of a structure, and for any number of members, without building it."""

from tf_terngrad.sparsity.costs.layers import LayerCost, layer_costs
from tf_terngrad.sparsity.costs.members import RESOURCES, Costs, StructureCost, Total, costs
from tf_terngrad.sparsity.costs.resources import Resource, Term

__all__ = ["RESOURCES", "Costs", "LayerCost", "Resource", "StructureCost", "Term", "Total", "costs", "layer_costs"]

"""Send gradients as ternary digits."""

"""Learn which structures a network does not need, and take them out."""

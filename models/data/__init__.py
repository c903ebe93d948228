"""Data sets and texts that networks are trained on, and how images are augmented. No network is here."""

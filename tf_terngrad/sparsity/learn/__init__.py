"""What makes groups of weights zero while a model trains: penalties, the proximal step, regularizers, wrappers."""

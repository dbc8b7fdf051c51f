"""Kakouros et al. 2023: attentive correlation pooling."""

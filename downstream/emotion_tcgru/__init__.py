"""Mitra et al. 2024: dimensional emotion from salient dimensions, with the graders' spread."""

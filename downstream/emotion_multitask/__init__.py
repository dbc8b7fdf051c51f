"""Mitra et al. 2025: the graders' distribution over classes, and dimensions, from one TC-GRU."""

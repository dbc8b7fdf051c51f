"""Figures: confusion matrices, attention, embeddings, speakers."""

"""Read what a study left on disk: runs, predictions, training records, embeddings, and published results."""

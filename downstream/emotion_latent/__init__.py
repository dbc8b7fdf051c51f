"""``-d emotion_latent``: Das et al. 2022."""

"""Recurrent autoencoder."""

"""Recurrent autoencoder on Mel spectrograms, after auDeep: what the ``rae`` upstream is trained by and built from."""

LAYOUTS = ("auto", "folder", "librispeech", "tedlium")  # of folders with unlabelled audio

"""Pretrain the ``rae`` upstream, a recurrent autoencoder on Mel spectrograms after auDeep, on unlabelled audio."""

LAYOUTS = ("auto", "folder", "librispeech", "tedlium")  # of folders with unlabelled audio

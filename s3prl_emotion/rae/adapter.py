"""Import the autoencoder from the ``rae`` adapter, which has its name only once the suite is registered with s3prl."""

from s3prl_emotion import host

host.register()  # also in loader processes, which import the modules that need the adapter

from s3prl.upstream.rae.configuration import CHECKPOINT, Configuration, check_resumable, read_state  # noqa: E402
from s3prl.upstream.rae.model import RecurrentAutoencoder, root_mean, squared_error  # noqa: E402
from s3prl.upstream.rae.spectrogram import MelSpectrogramDb, SpectrogramSection  # noqa: E402

__all__ = [
    "CHECKPOINT", "Configuration", "MelSpectrogramDb", "RecurrentAutoencoder", "SpectrogramSection", "check_resumable",
    "read_state", "root_mean", "squared_error",
]  # fmt: skip

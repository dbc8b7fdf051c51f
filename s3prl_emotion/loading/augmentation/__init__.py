"""Change training utterances at random (``datarc.augment``); every draw depends only on seed, epoch and utterance."""

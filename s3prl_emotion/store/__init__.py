"""Keep the features of a frozen upstream on disk, so that each utterance is computed once.

A store is a folder with one sub-folder per collection, that is, per upstream and way of computing (``identity.py``). A
collection consists of segments, each written by one process (``segments.py``). ``store.py`` reads and writes
utterances; ``upkeep.py`` lists, verifies and cleans.
"""

from s3prl_emotion.store.identity import Identity, identify, utterance_key
from s3prl_emotion.store.store import FeatureStore

__all__ = ["FeatureStore", "Identity", "identify", "utterance_key"]

"""The feature store: what a frozen upstream gives for an utterance, computed once and kept on disk.

A store is a folder. It holds one sub-folder per collection, that is, per upstream and way of computing
(``identity.py``), and in it segments written by one process each (``segments.py``). ``store.py`` reads and writes
utterances; ``source.py`` is what the runner asks for features; ``upkeep.py`` lists, verifies and cleans.
"""

from s3prl_emotion.store.identity import Identity, identify, utterance_key
from s3prl_emotion.store.store import FeatureStore

__all__ = ["FeatureStore", "Identity", "identify", "utterance_key"]

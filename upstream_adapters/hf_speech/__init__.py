"""The ``hf_speech`` upstreams: HuBERT and relatives, and the encoders of speech recognisers, from ``transformers``."""

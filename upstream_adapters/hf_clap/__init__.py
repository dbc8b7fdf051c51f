"""The ``hf_clap`` upstreams: the audio encoder of CLAP, from ``transformers``."""

"""The ``hf_codec`` upstreams: encoders of the neural codecs EnCodec and DAC, from ``transformers``."""

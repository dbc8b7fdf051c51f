"""The ``hf_speech`` upstreams: HuBERT and its relatives, w2v-BERT 2.0 and Whisper's encoder, from ``transformers``."""

"""Speech models of ``transformers`` as upstreams: HuBERT and kin, w2v-BERT 2.0, Whisper's encoder."""

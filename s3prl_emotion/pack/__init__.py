"""Pack a trained head as a folder that others can load: safetensors, ``config.yaml`` and a model card."""

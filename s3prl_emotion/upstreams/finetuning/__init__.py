"""Train a part of an upstream, or all of it, with the head (``-f``): LoRA adapters, or the last transformer layers."""

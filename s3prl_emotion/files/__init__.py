"""Files and folders: locks, checkpoints, and where heads, adapters and recipes lie."""

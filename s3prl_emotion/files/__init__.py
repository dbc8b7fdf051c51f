"""Write files atomically, lock them, read checkpoints, and locate the folders of heads, adapters and recipes."""

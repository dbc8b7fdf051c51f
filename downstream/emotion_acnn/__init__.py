"""``-d emotion_acnn``: Neumann & Vu 2019."""

"""What the suite knows about processes: how they end, how children end with them, and processes that load data."""

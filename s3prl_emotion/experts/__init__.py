"""Base classes of the heads, and parts that several heads share."""

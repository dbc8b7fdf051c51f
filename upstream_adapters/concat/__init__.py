"""Several upstreams side by side."""

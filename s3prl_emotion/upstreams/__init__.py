"""Build frozen upstreams and compute features with them."""

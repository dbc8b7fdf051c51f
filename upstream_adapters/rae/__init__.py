"""The ``rae`` upstreams: the encoder of a recurrent autoencoder."""

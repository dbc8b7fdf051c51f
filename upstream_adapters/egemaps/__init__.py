"""The ``egemaps`` upstreams: eGeMAPS by openSMILE."""

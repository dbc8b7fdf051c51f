"""The commands of ``s3prl-emotion``: one module each, with ``add_arguments(parser)`` and ``run(args) -> exit code``."""

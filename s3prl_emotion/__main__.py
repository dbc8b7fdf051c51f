"""``python -m s3prl_emotion``: run the ``s3prl-emotion`` command."""

from s3prl_emotion.cli import command

if __name__ == "__main__":
    command()

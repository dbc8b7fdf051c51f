"""SUPERB's emotion task for one upstream: from its lists and the audio to scores, report and submission."""

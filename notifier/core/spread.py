"""Waits that differ, so that those who are sent away together do not come back together."""

import random
from datetime import timedelta


def spread(least_seconds: float, most_seconds: float) -> timedelta:
    """A wait between the two."""
    return timedelta(seconds=random.uniform(least_seconds, most_seconds))

"""Slow second implementations, written from the specification, to compare the fast ones with."""

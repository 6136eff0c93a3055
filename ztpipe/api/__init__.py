"""The HTTP control API (service §4) on the primary port, and what it needs from the process behind it."""

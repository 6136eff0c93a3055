"""The version of the reference that the command lines speak for: scripts parse it."""

REFERENCE_VERSION = "1.14.1"

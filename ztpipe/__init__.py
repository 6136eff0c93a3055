"""ztpipe: a ZeroTier gateway made of small processes and shared memory."""

__version__ = "0.1.0"

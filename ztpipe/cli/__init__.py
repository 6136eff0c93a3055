"""Command lines: the three personalities of the reference (service §1.1) and the commands of ztpipe itself."""

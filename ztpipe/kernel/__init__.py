"""The C kernel and what Python needs around it. Importing this package loads nothing; `ztpipe.kernel._kernel` is the extension."""

"""The C kernel (`ztpipe.kernel._kernel`, cffi) and its Python side. Importing this package loads nothing."""

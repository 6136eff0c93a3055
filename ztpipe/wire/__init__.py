"""Bytes <-> frozen dataclasses: packets, verbs, identities, worlds, credentials, configurations.

Pure functions of their input. Parsers raise `ztpipe.wire.errors.WireError` on bad input and nothing else.
"""

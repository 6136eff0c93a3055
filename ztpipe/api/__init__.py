"""The HTTP control API (service §4) on the primary port, and what it needs from the process behind it."""

import urllib.request  # noqa: F401  # aiohttp needs it, and others may want it with ssl

from ztpipe import lean

with lean.absent("ssl"):  # the API is plain HTTP, and aiohttp would load the host's certificates for its client: 2 MB
    import aiohttp  # noqa: F401

"""What every test beside an unmodified zerotier-one needs, and says loudly when it is not there."""

from __future__ import annotations

import os

import pytest

BESIDE_REFERENCE = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        "ZT_REFERENCE" not in os.environ,
        reason="NOT TESTED AGAINST zerotier-one: set ZT_REFERENCE to an unmodified zerotier-one 1.14.1 program",
    ),
]

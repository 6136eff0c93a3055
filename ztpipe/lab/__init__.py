"""A laboratory of network namespaces on one machine: what `ztpipe demo`, the tests and the benchmarks run in.

Nothing leaves the machine: namespaces have no route out, names are unique to the run, and all of it is removed at
the end.
"""

from ztpipe.lab.namespaces import Lab, LabError, Namespace
from ztpipe.lab.nodes import Gateway, LabNode, NodeFailed, Reference

__all__ = ["Gateway", "Lab", "LabError", "LabNode", "Namespace", "NodeFailed", "Reference"]

"""Python's view of the shared memory of the data plane (kernel/abi.h): regions, tables, rings, bells, counters."""

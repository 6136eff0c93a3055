"""The protocol mind: VL1 and VL2 without sockets, clocks or threads. Events in, a list of actions out."""

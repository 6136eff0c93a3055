"""Linux: TAP devices, UDP sockets, addresses, routes and the underlay's interfaces. No protocol in here."""

from ztpipe import lean

lean.without_init("pyroute2")  # that has a database, ipset, nftables, ...: 5 MB of which we use nothing

"""Linux: TAP devices, UDP sockets, addresses, routes and the underlay's interfaces. No protocol in here."""

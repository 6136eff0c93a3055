"""Address translators of the laboratory: routers between a host and the WAN, each of a named kind, by nftables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ztpipe.lab.namespaces import Lab, Namespace

KINDS: Final = ("none", "full", "restricted", "port", "symmetric", "double")
"""No NAT; full cone; address-restricted cone; port-restricted cone; symmetric; a port-restricted behind another."""

WAN_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class Site:
    """One host and its way to the WAN. `external`: the address that others see it by."""

    kind: str
    host: Namespace
    external: str
    routers: tuple[Namespace, ...] = ()


def site(lab: Lab, wan: Namespace, label: str, kind: str, external: str, *, lan: str) -> Site:
    """A host called `label` on the switch `wan`, behind a NAT of `kind`. `lan`: first three bytes of its network."""
    if kind == "none":
        host = lab.namespace(label)
        lab.cable(host, "eth0", [f"{external}/{WAN_BITS}"], wan)
        return Site(kind, host, external)
    inner = kind
    outside, outside_address, bits, gateway = wan, external, WAN_BITS, ""
    routers: list[Namespace] = []
    if kind == "double":
        inner = "port"
        carrier = router(lab, f"{label}-c", "port", wan, f"{external}/{WAN_BITS}")
        access = lab.switch(f"{label}-x")
        plug_inside(lab, carrier, "inside", "100.64.0.1/24", access)
        routers.append(carrier)
        outside, outside_address, bits, gateway = access, "100.64.0.2", 24, "100.64.0.1"
    home = router(lab, f"{label}-r", inner, outside, f"{outside_address}/{bits}", gateway=gateway, target=f"{lan}.2")
    routers.append(home)
    host = lab.namespace(label)
    behind(lab, host, home, lan)
    return Site(kind, host, external, tuple(routers))


def router(
    lab: Lab, label: str, kind: str, outside: Namespace, address: str, *, gateway: str = "", target: str = ""
) -> Namespace:
    """A router with `outside` (its WAN interface, plugged in) and a NAT of `kind`. `target`: the host inside, for
    those kinds that let strangers in."""
    made = lab.namespace(label)
    made.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    lab.cable(made, "outside", [address], outside)
    if gateway:
        made.run("ip", "route", "add", "default", "via", gateway)
    translate(made, kind, address.split("/", maxsplit=1)[0], target)
    return made


def plug_inside(lab: Lab, made: Namespace, device: str, address: str, switch: Namespace) -> None:
    """An inner interface of a router, on the switch of the network inside."""
    lab.cable(made, device, [address], switch)


def behind(lab: Lab, host: Namespace, home: Namespace, lan: str) -> None:
    """Connect a single host to the inside of a router by a cable of its own."""
    lab.cable(host, "eth0", [f"{lan}.2/24"], home, plug="inside", other_addresses=[f"{lan}.1/24"])
    host.run("ip", "route", "add", "default", "via", f"{lan}.1")


def translate(made: Namespace, kind: str, external: str, target: str) -> None:
    """The rules of one kind. What comes in unasked is dropped before it leaves a trace, as home routers do: an entry
    in the connection table would make the next outgoing packet of the same five numbers leave by another port."""
    source = {"symmetric": "masquerade fully-random"}.get(kind, "masquerade")
    let_in = {
        "full": f"iifname outside ip daddr {external} meta l4proto udp dnat to {target};",
        "restricted": f"iifname outside ip daddr {external} meta l4proto udp ip saddr @spoken dnat to {target};",
    }.get(kind, "")
    load(
        made,
        f"""
        table ip nat {{
          set spoken {{ type ipv4_addr; flags dynamic,timeout; timeout 2m; }}
          chain out {{ type filter hook forward priority 0; oifname outside update @spoken {{ ip daddr }}; }}
          chain pre {{ type nat hook prerouting priority dstnat; {let_in} }}
          chain post {{ type nat hook postrouting priority srcnat; oifname outside {source}; }}
          chain own {{ type filter hook input priority 0; iifname outside meta l4proto udp drop; }}
          chain in {{
            type filter hook forward priority 1;
            iifname outside ct state new ct status dnat accept
            iifname outside ct state established,related accept
            iifname outside drop
          }}
        }}
        """,
    )


def carrier(lab: Lab, wan: Namespace, label: str, homes: dict[str, str], *, hairpin: bool) -> Namespace:
    """A carrier's NAT that gives each home (address inside -> address outside) an external address of its own, and
    with `hairpin` carries packets from one of them to the external address of another. Homes are on cables of their
    own (`subscriber`); they do not reach each other's inner addresses."""
    made = lab.namespace(label)
    made.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    lab.cable(made, "outside", [f"{external}/{WAN_BITS}" for external in homes.values()], wan)
    hairpinned = " ".join(f"iifname != outside ip daddr {o} meta l4proto udp dnat to {i};" for i, o in homes.items())
    leave = " ".join(f"ip saddr {i} snat to {o};" for i, o in homes.items())
    load(
        made,
        f"""
        table ip nat {{
          chain pre {{ type nat hook prerouting priority dstnat; {hairpinned if hairpin else ""} }}
          chain post {{ type nat hook postrouting priority srcnat; {leave} }}
          chain own {{ type filter hook input priority 0; meta l4proto udp drop; }}
          chain in {{
            type filter hook forward priority 1;
            ct state established,related accept
            ct status dnat accept
            iifname outside drop
            oifname != outside drop
          }}
        }}
        """,
    )
    return made


def subscriber(lab: Lab, middle: Namespace, label: str, number: int) -> Namespace:
    """The router of a home behind a carrier's NAT: 100.64.<number>.2, port-restricted."""
    made = lab.namespace(label)
    made.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    here, there = f"100.64.{number}.2/24", f"100.64.{number}.1/24"
    lab.cable(made, "outside", [here], middle, plug=f"home{number}", other_addresses=[there])
    made.run("ip", "route", "add", "default", "via", f"100.64.{number}.1")
    translate(made, "port", f"100.64.{number}.2", "")
    return made


def firewalled(lab: Lab, wan: Namespace, label: str, number: int) -> Namespace:
    """A host with IPv6 only, 2001:db8:<number>::2, behind a router that lets in only answers; on the WAN that router
    is 2001:db8::<number>, and everybody there needs the route."""
    home, host = lab.namespace(f"{label}-r"), lab.namespace(label)
    home.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    lab.cable(home, "outside", [f"2001:db8::{number}/64"], wan)
    lab.cable(
        host, "eth0", [f"2001:db8:{number}::2/64"], home, plug="inside", other_addresses=[f"2001:db8:{number}::1/64"]
    )
    host.run("ip", "-6", "route", "add", "default", "via", f"2001:db8:{number}::1")
    load(
        home,
        """
        table ip6 firewall {
          chain in {
            type filter hook forward priority 0;
            iifname outside ct state established,related accept
            iifname outside drop
          }
        }
        """,
    )
    return host


def load(namespace: Namespace, rules: str) -> None:
    """A ruleset for nft; LabError with its words if it does not take it."""
    namespace.run("nft", rules)

"""``zerotier-cli bond``, for services that bond links (service §2.9); ours answers that it does not."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztpipe.cli.tables import Json
    from ztpipe.cli.zerotier_cli import Session

_INDEX_LINE = f"idx{'interface':>27}{'path':>38}{'socket':>21}{'local port':>23}"
_QUALITY_LINE = "idx     lat      pdv    capacity    qual      rx_age      tx_age  eligible  bonded   flows"


def run(session: Session, words: list[str]) -> int:
    """`words` are what follows ``bond``."""
    if words[:1] == ["list"]:
        return listing(session)
    if words[:1] == ["setmtu"] and len(words) >= 4:
        return _set_mtu(session, words[1:4])
    if len(words) >= 2 and len(words[0]) == 10 and words[1] == "show":
        return _show(session, words[0])
    if len(words) >= 2 and len(words[0]) == 10 and words[1] == "rotate":
        return _rotate(session, words[0])
    print("(bond) command is missing required arguments")
    return 2


def listing(session: Session) -> int:
    """``listbonds``."""
    found = session.fetch("GET", "/peer", "bond", frame=True)
    if found is None:
        return 1
    if session.json_output:
        session.print_json(found)
        return 0
    print("    <peer>                        <bondtype>     <links>")
    bonded = [peer for peer in found if peer.get("isBonded")]
    for peer in bonded:
        links = f"{peer.get('numAliveLinks', 0)}/{peer.get('numTotalLinks', 0)}"
        print(f"{peer.get('address'):>10}  {peer.get('bondingPolicyStr', ''):>32}         {links}")
    if not bonded:
        print("      NONE\t\t\t\tNONE\t    NONE       NONE")
    return 0


def _show(session: Session, peer: str) -> int:
    found = session.fetch("GET", f"/bond/show/{peer}", "bond", frame=True)
    if found is None:
        return 1
    if session.json_output:
        session.print_json(found)
    else:
        print("\n".join(_tables(found)))
    return 0


def _tables(peer: Json) -> Iterator[str]:
    for label, value in (
        ("Peer", peer.get("address")),
        ("Bond", peer.get("bondingPolicyStr")),
        ("Link Select Method", peer.get("linkSelectMethod", 0)),
        ("Links", f"{peer.get('numAliveLinks', 0)}/{peer.get('numTotalLinks', 0)}"),
        ("Failover Interval (ms)", peer.get("failoverInterval", 0)),
        ("Up Delay (ms)", peer.get("upDelay", 0)),
        ("Down Delay (ms)", peer.get("downDelay", 0)),
        ("Packets Per Link", peer.get("packetsPerLink", 0)),
    ):
        yield f"{label:<23}: {value}"
    paths: list[Json] = peer.get("paths", [])
    yield from ("", _INDEX_LINE, "-" * 120)
    for index, path in enumerate(paths):
        yield (
            f"{index:2}: {path.get('ifname', ''):>26} {path.get('address', ''):>51}"
            f" {path.get('localSocket', 0):016x} {path.get('localPort', 0):>12}"
        )
    yield from ("", _QUALITY_LINE, "-" * 120)
    for index, path in enumerate(paths):
        yield (
            f"{index:2}: {path.get('latencyMean', 0):8.2f} {path.get('latencyVariance', 0):8.2f}"
            f" {path.get('givenLinkSpeed', 0):10} {path.get('relativeQuality', 0):7.4f}"
            f" {path.get('lastInAge', -1):11} {path.get('lastOutAge', -1):11}"
            f" {path.get('eligible', 0):9} {path.get('bonded', 0):7} {path.get('assignedFlowCount', 0):7}"
        )


def _rotate(session: Session, peer: str) -> int:
    reply = session.client.request("POST", f"/bond/rotate/{peer}", "{}")
    if reply.status != 200:
        print(reply.status, "bond", reply.body)
        return 1
    if session.json_output:
        sys.stdout.write(reply.body)
    else:
        print("200 rotate OK")
    return 0


def _set_mtu(session: Session, words: list[str]) -> int:
    """The reference finds these words only behind exactly two switches; here they count wherever they stand."""
    mtu, interface, address = words
    reply = session.client.request("POST", f"/bond/setmtu/{mtu}/{interface}/{address}", "{}")
    if reply.status != 200:
        print(f"{reply.status} Failed to set MTU: {reply.body}")
        return 1
    print("200 setmtu OK")
    return 0

"""What the data plane is told so that it can evaluate rules: it decides as `node/filter.py` would (vl2 §4.6, §4.7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.node.test_vl2_members import IDENTITIES, IPV4, joined, mac, tap
from tests.node.vl2_lab import Host, InstallMember, InstallNetwork, Lab, RemoveMember
from tests.rules import strategies as make
from ztpipe.kernel._kernel import ffi, lib
from ztpipe.node.actions import InstallCredentials
from ztpipe.node.filter import EthernetFrame, Filter, Inbound
from ztpipe.node.membership import Member
from ztpipe.node.network import Network
from ztpipe.node.policy import member_policy, network_policy
from ztpipe.rules.flat import pack
from ztpipe.wire.address import mac_of, rfc4193, sixplane
from ztpipe.wire.credentials import Capability, CertificateOfOwnership, CredentialType, Revocation, Tag, Thing
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import Verb
from ztpipe.wire.rule import ACCEPT, Rule, decode_rules
from ztpipe.wire.verbs import NetworkCredentials

SAME_TAG = decode_rules(bytes.fromhex("2c08 00000064 00000000 0100"))


def tagged(value: int) -> Lab:
    """Two members that may talk if their tags 100 are equal; the second's has `value`, the first's 7."""
    lab = Lab(IDENTITIES[:3])
    lab.controller.common |= {"rules": SAME_TAG}
    for index, (identity, number) in enumerate(zip(IDENTITIES[1:3], (7, value), strict=True), 1):
        tag = Tag(lab.nwid, lab.now, 100, number, identity.address).sign(lab.controller.identity)
        lab.controller.authorise(identity, f"10.9.0.{index}/24", tags=(tag,))
        lab.hosts[identity.address].engine.join(lab.now, lab.nwid)
    lab.run(1_000)
    return lab


def told(host: Host) -> list[Any]:
    """Actions about credentials and members, in order."""
    wanted = [a for a in host.vl1.actions if isinstance(a, InstallCredentials | InstallMember | RemoveMember)]
    host.vl1.actions.clear()
    return wanted


def test_credentials_are_told_before_the_member_may_send() -> None:
    lab = tagged(7)
    one, two = lab.member(1), lab.member(2)
    (install,) = two.vl1.take(InstallNetwork)[-1:]
    assert install.policy == pack([SAME_TAG], tags={100: 7}) and not install.accept_all
    told(two)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(100)
    first, second = told(two)[:2]
    assert first == InstallCredentials(lab.nwid, one.address, pack([], tags={100: 7}))
    assert second == InstallMember(lab.nwid, one.address, True, 0)


def test_a_revoked_tag_is_taken_back() -> None:
    lab = tagged(7)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(2_000)
    told(two)
    revocation = Revocation(9, lab.nwid, 100, lab.now, 0, one.address, CredentialType.TAG).sign(IDENTITIES[0])
    two.receive(
        two.context(
            lab.now, IDENTITIES[0], Verb.NETWORK_CREDENTIALS, NetworkCredentials(revocations=(revocation,)).encode()
        )
    )
    assert InstallCredentials(lab.nwid, one.address, b"") in told(two)


def test_where_everything_is_accepted_nobody_needs_credentials() -> None:
    lab = tagged(7)
    one, two = lab.member(1), lab.member(2)
    tap(lab, one, mac(two, lab), IPV4, b"hello")
    lab.run(100)
    told(two)
    lab.controller.common["rules"] = (ACCEPT,)
    lab.now += 1
    lab.push(two.address)
    lab.run(1_000)
    assert two.vl1.take(InstallNetwork)[-1].policy is None
    assert InstallCredentials(lab.nwid, one.address, b"") in told(two)


def test_nothing_is_said_twice() -> None:
    lab = tagged(7)
    one, two = lab.member(1), lab.member(2)
    for _ in range(5):
        tap(lab, one, mac(two, lab), IPV4, b"hello")
        lab.run(100)
    assert len([a for a in told(two) if isinstance(a, InstallCredentials)]) == 1


# --- the two ways to decide ---------------------------------------------------------------------------------


def _things() -> st.SearchStrategy[tuple[Thing, ...]]:
    macs, ips = st.sampled_from(make.MACS).map(Thing.mac), st.sampled_from([*make.IPS4, *make.IPS6]).map(Thing.ip)
    return st.lists(macs | ips | st.just(Thing(9, bytes(16))), max_size=3).map(tuple)


@st.composite
def _credentials(draw: st.DrawFn, nwid: int, now: int, holder: int) -> dict[str, Any]:
    """Tags, capabilities and certificates of ownership; some are of a time that does not count any more."""
    times = st.sampled_from([now, now, now - 1_000, now - 10_000_000])
    return {
        "tags": tuple(Tag(nwid, draw(times), i, v, holder) for i, v in draw(make.tag_sets()).items()),
        "capabilities": tuple(
            Capability(nwid, draw(times), number, rules, 1, ())
            for number, rules in enumerate(draw(st.lists(make.rule_lists(4), max_size=2)))
        ),
        "coos": tuple(
            CertificateOfOwnership(nwid, draw(times), 0, number, things, holder)
            for number, things in enumerate(draw(st.lists(_things(), max_size=2)))
        ),
    }


LAB = joined(2)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), rules=make.rule_lists(8), frame=make.frames(), flags=st.sampled_from([0, 0x04, 0x08, 0x0C]))
def test_the_data_plane_decides_as_the_filter_does(
    data: st.DataObject, rules: tuple[Rule, ...], frame: tuple[int, bytes], flags: int
) -> None:
    host, other = LAB.member(1), LAB.member(2)
    nwid, now = LAB.nwid, LAB.now
    ips = data.draw(st.sampled_from([(), (sixplane(nwid, host.address),), (rfc4193(nwid, host.address),)]))
    network = Network(nwid, host.address)
    network.set_config(
        NetworkConfig(
            network_id=nwid,
            timestamp=now,
            issued_to=host.address,
            flags=flags,
            rules=rules,
            static_ips=ips,
            credential_time_max_delta=1_800_000,
            **data.draw(_credentials(nwid, now, host.address)),
        )
    )
    member = Member(other.address)
    for kind, held in data.draw(_credentials(nwid, now, other.address)).items():
        setattr(member, kind, {item.id: item for item in held})
    if data.draw(st.booleans()):
        member.thresholds[CredentialType.TAG, make.TAGS[0]] = now
    inbound = data.draw(st.booleans())
    ethernet = _frame(data, frame, nwid, host.address, other.address, inbound)
    strict = data.draw(st.booleans())
    host.vl1.settings = replace(host.vl1.settings, strict_filtering=strict)
    own, remote = network_policy(network, strict=strict), member_policy(network, member)
    if own is None or remote is None or network.rules.accepts_everything:
        return
    assert _decide(own, remote, ethernet, host.address, other.address, inbound) == _filter(
        host, network, member, ethernet, inbound
    )


def _frame(
    data: st.DataObject, frame: tuple[int, bytes], nwid: int, own: int, other: int, inbound: bool
) -> EthernetFrame:
    here, there = mac_of(own, nwid), mac_of(other, nwid)
    ethertype, payload = frame
    if ethertype == make.IPV6 and len(payload) >= 24 and data.draw(st.booleans()):
        ip = data.draw(st.sampled_from([sixplane, rfc4193]))(nwid, other).ip
        payload = payload[:8] + ip + payload[24:]
    return EthernetFrame(here if inbound else there, there if inbound else here, ethertype, payload)


def _decide(own: bytes, remote: bytes, frame: EthernetFrame, here: int, there: int, inbound: bool) -> str:
    memory = [ffi.new("uint64_t[]", (len(packed) + 7) // 8) for packed in (own, remote)]
    for place, packed in zip(memory, (own, remote), strict=True):
        ffi.memmove(place, packed, len(packed))
    payload = ffi.new("uint8_t[]", frame.payload or b"\0")
    situation = ffi.new(
        "struct zt_situation *",
        {
            "own": ffi.cast("struct zt_policy *", memory[0]),
            "remote": ffi.cast("struct zt_policy *", memory[1]) if remote else ffi.NULL,
            "data": payload, "len": len(frame.payload), "ethertype": frame.ethertype, "inbound": inbound,
            "self": here, "peer": there, "mac_source": frame.source, "mac_dest": frame.destination,
        },
    )  # fmt: skip
    names = {lib.ZT_FILTER_PASS: "pass", lib.ZT_FILTER_DROP: "drop", lib.ZT_FILTER_PUNT: "special"}
    return names[lib.zt_filter(situation)]


def _filter(host: Host, network: Network, member: Member, frame: EthernetFrame, inbound: bool) -> str:
    """The same from `node/filter.py`: "special" if it sent a copy or redirected the frame."""
    core = host.engine._core
    network.members._members[member.address] = member
    host.vl1.sent.clear()
    host.vl1.actions.clear()
    host.vl1.random = lambda n: b"\x80" * n
    if inbound:
        passed = Filter(core).inbound(LAB.now, network, member.address, frame) is not Inbound.DROP
    else:
        passed = Filter(core).outbound(LAB.now, network, member.address, frame, copies=True)
    if host.vl1.sent:
        return "special"
    return "pass" if passed else "drop"


def test_a_policy_that_is_too_large_is_left_to_the_slow_path() -> None:
    lab = tagged(7)
    two = lab.member(2)
    network = two.engine._core.networks[lab.nwid]
    member = Member(lab.member(1).address)
    rules = (ACCEPT,) * 64
    member.capabilities = {n: Capability(lab.nwid, lab.now, n, rules, 1, ()) for n in range(128)}
    assert member_policy(network, member) is None
    assert network.config is not None
    network.set_config(replace(network.config, capabilities=tuple(member.capabilities.values())))
    assert network_policy(network) is None

"""Our dataclasses described the way `decoded.jsonl` describes packets, to compare field by field."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from tests.captures import Json
from ztpipe.wire import dictionary
from ztpipe.wire.address import format_address, format_mac, format_nwid
from ztpipe.wire.armor import SessionKeys
from ztpipe.wire.credentials import (
    Capability,
    CertificateOfMembership,
    CertificateOfOwnership,
    Revocation,
    Tag,
)
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.netconf import NetworkConfig
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.rule import Rule
from ztpipe.wire.verbs import (
    AuthenticationRequired,
    ConfigChunk,
    Echo,
    Error,
    ExtFrame,
    Frame,
    Hello,
    MulticastFrame,
    MulticastGather,
    MulticastLike,
    NetworkConfigRequest,
    NetworkCredentials,
    Ok,
    OkConfig,
    OkExtFrame,
    OkHello,
    OkMulticastFrame,
    OkMulticastGather,
    OkWhois,
    PushDirectPaths,
    QosMeasurement,
    RemoteTrace,
    Rendezvous,
    UserMessage,
    Whois,
)
from ztpipe.wire.world import World

_SUBTYPES = (
    "normal",
    "tee outbound",
    "redirect outbound",
    "watch outbound",
    "tee inbound",
    "redirect inbound",
    "watch inbound",
)


def endpoint(value: InetAddress | None) -> str | None:
    return None if value is None else value.text()


def identity(value: Identity) -> Json:
    return {"address": format_address(value.address), "public_key": value.public.hex()}


def world(value: World) -> Json:
    return {
        "type": int(value.type),
        "id": format_nwid(value.id),
        "timestamp": value.timestamp,
        "next_key": value.update_key.hex(),
        "signature": value.signature.hex(),
        "roots": [
            {"identity": identity(r.identity), "endpoints": [e.text() for e in r.endpoints]} for r in value.roots
        ],
        "signature_ok_own_key": value.verify(value.update_key),
    }


def com(value: CertificateOfMembership, known: dict[int, Identity]) -> Json:
    member = known.get(value.issued_to)
    words = [q.value for q in value.qualifiers if 3 <= q.id <= 6]
    fingerprint = b"".join(word.to_bytes(8, "big") for word in words)
    return {
        "signer": format_address(value.signer),
        "timestamp": value.timestamp,
        "nwid": format_nwid(value.nwid),
        "issued_to": format_address(value.issued_to),
        "max_delta": value.max_delta,
        "fingerprint": fingerprint.hex(),
        "signature_ok": value.verify(known[value.signer]),
        "fingerprint_ok": member is not None and member.fingerprint()[:32] == fingerprint,
    }


def tag(value: Tag, known: dict[int, Identity]) -> Json:
    return {
        "nwid": format_nwid(value.nwid),
        "timestamp": value.timestamp,
        "id": value.id,
        "value": value.value,
        "issued_to": format_address(value.issued_to),
        "signer": format_address(value.signer),
        "signature_ok": value.verify(known[value.signer]),
    }


def _thing(kind: int, value: bytes) -> Json:
    if kind == 1:
        return {"type": "mac", "value": value[:6].hex(":")}
    return {"type": "ipv4" if kind == 2 else "ipv6", "value": str(ip_address(value[:4] if kind == 2 else value))}


def coo(value: CertificateOfOwnership, known: dict[int, Identity]) -> Json:
    return {
        "nwid": format_nwid(value.nwid),
        "timestamp": value.timestamp,
        "flags": value.flags,
        "id": value.id,
        "things": [_thing(*thing) for thing in value.things],
        "issued_to": format_address(value.issued_to),
        "signer": format_address(value.signer),
        "signature_ok": value.verify(known[value.signer]),
    }


def revocation(value: Revocation, known: dict[int, Identity]) -> Json:
    return {
        "id": value.id,
        "nwid": format_nwid(value.nwid),
        "credential_id": value.credential_id,
        "threshold": value.threshold,
        "flags": value.flags,
        "target": format_address(value.target),
        "signer": format_address(value.signer),
        "credential_type": value.credential_type,
        "signature_ok": value.verify(known[value.signer]),
    }


def capability(value: Capability, known: dict[int, Identity]) -> Json:
    return {
        "nwid": format_nwid(value.nwid),
        "timestamp": value.timestamp,
        "id": value.id,
        "rules": [rule(r) for r in value.rules],
        "max_custody_chain": value.max_custody_chain,
        "custody": [
            {
                "to": format_address(link.to),
                "from": format_address(link.from_),
                "signature_ok": value.verify_link(i, known[link.from_]),
            }
            for i, link in enumerate(value.custody)
        ],
        "issued_to": format_address(value.issued_to),
    }


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _address_and_prefix(v: bytes) -> Json:
    return {"ip": f"{ip_address(v[:-1])}/{v[-1]}"}


_RULE_VALUES: dict[str, Callable[[bytes], Json]] = {
    **dict.fromkeys(("ACTION_DROP", "ACTION_ACCEPT", "ACTION_BREAK"), lambda v: {}),
    **dict.fromkeys(
        ("ACTION_TEE", "ACTION_WATCH", "ACTION_REDIRECT"),
        lambda v: {"address": f"{_number(v[:8]):010x}", "flags": _number(v[8:12]), "length": _number(v[12:])},
    ),
    **dict.fromkeys(("IPV6_SOURCE", "IPV6_DEST"), _address_and_prefix),
    **dict.fromkeys(("MAC_SOURCE", "MAC_DEST"), lambda v: {"mac": v.hex(":")}),
    **dict.fromkeys(("ETHERTYPE", "IP_PROTOCOL"), lambda v: {"value": _number(v)}),
    "IP_DEST_PORT_RANGE": lambda v: {"low": _number(v[:2]), "high": _number(v[2:])},
    "CHARACTERISTICS": lambda v: {"value": v.hex()},
    "TAGS_DIFFERENCE": lambda v: {"id": _number(v[:4]), "value": _number(v[4:])},
}


def rule(value: Rule) -> Json:
    name = value.type.name  # type: ignore[union-attr]
    result: Json = {"type": int(value.type), "name": name if value.is_action else f"MATCH_{name}"}
    if value.negate:
        result["not"] = True
    if value.or_:
        result["or"] = True
    return result | _RULE_VALUES[name](value.value)


def config(value: NetworkConfig, known: dict[int, Identity]) -> Json:
    servers: list[str | None] = [server.text() for server in value.dns.servers]
    result: Json = {
        "nwid": format_nwid(value.network_id),
        "ts": value.timestamp,
        "ctmd": value.credential_time_max_delta,
        "r": value.revision,
        "id": format_address(value.issued_to),
        "tt": format_address(value.trace_target),
        "tl": value.trace_level,
        "f": value.flags,
        "ml": value.multicast_limit,
        "t": value.type,
        "n": value.name,
        "mtu": value.mtu,
        "DNS": {"domain": value.dns.domain, "servers": servers + [None] * (4 - len(servers))},
        "ssov": value.sso_version,
        "ssoe": value.sso_enabled,
    }
    lists: Json = {
        "CAP": [capability(c, known) for c in value.capabilities],
        "TAG": [tag(t, known) for t in value.tags],
        "COO": [coo(c, known) for c in value.coos],
        "S": [{"address": f"{s & 0xFFFFFFFFFF:010x}", "roles": f"{s >> 40:06x}"} for s in value.specialists],
        "RT": [r._asdict() | {"target": r.target.text(), "via": endpoint(r.via)} for r in value.routes],
        "I": [ip.text() for ip in value.static_ips],
        "R": [rule(r) for r in value.rules],
    }
    if value.com is not None:
        result["C"] = com(value.com, known)
    return result | {key: items for key, items in lists.items() if items}


Described = tuple[Any, Json]


def _hello(payload: bytes, keys: SessionKeys, packet_id: int) -> Described:
    hello = Hello.decode(payload)
    moons = hello.moons(keys, packet_id)
    return hello, {
        "protocol": hello.protocol,
        "major": hello.major,
        "minor": hello.minor,
        "revision": hello.revision,
        "timestamp": hello.timestamp,
        "identity": identity(hello.identity),
        "sent_to": endpoint(hello.sent_to),
        "planet_id": format_nwid(hello.planet_id),
        "planet_timestamp": hello.planet_timestamp,
        "worlds": [{"type": m.type, "id": format_nwid(m.id), "timestamp": m.timestamp} for m in moons],
    }


def _group(nwid: int, group: tuple[int, int], **more: Any) -> Json:
    return {"nwid": format_nwid(nwid), "mac": format_mac(group[0]), "adi": f"{group[1]:08x}"} | more


def _addresses(values: tuple[int, ...]) -> list[str]:
    return [format_address(value) for value in values]


def _chunk(chunk: ConfigChunk, known: dict[int, Identity]) -> Json:
    return {
        "nwid": format_nwid(chunk.nwid),
        "chunk_length": len(chunk.data),
        "flags": chunk.flags,
        "update_id": format_nwid(chunk.update_id),
        "total_length": chunk.total_length,
        "chunk_offset": chunk.offset,
        "signature_ok": chunk.verify(known[chunk.nwid >> 24]),
        "chunk_id": chunk.chunk_id.hex(),
    }


def _ok_body(ok: Ok, fields: Json, known: dict[int, Identity]) -> Described:
    """Body and its description; an OK "to ECHO" may be the one to NETWORK_CONFIG (vl2 §2.5)."""
    body = ok.body
    if ok.in_re_verb is Verb.HELLO:
        hello = OkHello.decode(body)
        names = ("timestamp", "protocol", "major", "minor", "revision")
        return hello, {name: getattr(hello, name) for name in names} | {
            "received_from": endpoint(hello.received_from),
            "worlds": [world(w) for w in hello.worlds],
        }
    if ok.in_re_verb is Verb.WHOIS:
        whois = OkWhois.decode(body)
        return whois, {"identities": [identity(i) for i in whois.identities]}
    if ok.in_re_verb is Verb.ECHO and "update_id" in fields:
        config_ok = OkConfig.decode(body)
        return config_ok, {"nwid": format_nwid(config_ok.nwid), "update_id": format_nwid(config_ok.update_id)}
    if ok.in_re_verb is Verb.ECHO:
        echo = Echo.decode(body)
        return echo, {"echo_payload": echo.data.hex()}
    if ok.in_re_verb is Verb.EXT_FRAME:
        frame = OkExtFrame.decode(body)
        return frame, {"nwid": format_nwid(frame.nwid)}
    if ok.in_re_verb is Verb.MULTICAST_GATHER:
        gather = OkMulticastGather.decode(body)
        return gather, _group(gather.nwid, gather.group, total=gather.total, members=_addresses(gather.members))
    if ok.in_re_verb is Verb.MULTICAST_FRAME:
        multicast = OkMulticastFrame.decode(body)
        more = {"flags": body[18], "total": multicast.total, "members": _addresses(multicast.members)}
        return multicast, _group(multicast.nwid, multicast.group, **more)
    assert ok.in_re_verb is Verb.NETWORK_CONFIG_REQUEST
    chunk = ConfigChunk.decode(body)
    return chunk, _chunk(chunk, known)


def _error_body(error: Error) -> tuple[bytes, Json]:
    result: Json = {"code": int(error.code), "error": error.code.name, "nwid": format_nwid(error.nwid)}
    if error.code is not ErrorCode.NETWORK_AUTHENTICATION_REQUIRED:
        return error.body, result
    required = AuthenticationRequired.decode(error.body)
    sso = {"aV": f"{required.version:016x}", "aU": required.url}
    return required.encode(), result | {"dictionary": sso}


def _ext_frame(payload: bytes) -> Described:
    frame = ExtFrame.decode(payload)
    return frame, {
        "nwid": format_nwid(frame.nwid),
        "flags": frame.flags,
        "subtype": _SUBTYPES[frame.subtype],
        "ok_requested": frame.ok_requested,
        "dest_mac": format_mac(frame.destination),
        "source_mac": format_mac(frame.source),
        "ethertype": f"{frame.ethertype:04x}",
        "frame_length": len(frame.payload),
    }


def _multicast_frame(payload: bytes) -> Described:
    frame = MulticastFrame.decode(payload)
    result = {
        "nwid": format_nwid(frame.nwid),
        "flags": payload[8],
        "dest_mac": format_mac(frame.group.mac),
        "adi": f"{frame.group.adi:08x}",
        "ethertype": f"{frame.ethertype:04x}",
        "frame_length": len(frame.payload),
    }
    if frame.gather_limit:
        result["gather_limit"] = frame.gather_limit
    if frame.source is not None:
        result["source_mac"] = format_mac(frame.source)
    return frame, result


def _gather(payload: bytes, known: dict[int, Identity]) -> Described:
    gather = MulticastGather.decode(payload)
    result = _group(gather.nwid, gather.group, flags=payload[8], limit=gather.limit)
    if gather.com is not None:
        result["com"] = com(gather.com, known)
    return gather, result


def _credentials(payload: bytes, known: dict[int, Identity]) -> Described:
    value = NetworkCredentials.decode(payload)
    return value, {
        "coms": [com(c, known) for c in value.coms],
        "capabilities": [capability(c, known) for c in value.capabilities],
        "tags": [tag(t, known) for t in value.tags],
        "revocations": [revocation(r, known) for r in value.revocations],
        "coos": [coo(c, known) for c in value.coos],
    }


def _config_request(payload: bytes) -> Described:
    request = NetworkConfigRequest.decode(payload)
    entries = request.entries()
    numbers = {key: dictionary.u64(entries, key) for key in entries if key != "o"}
    return request, {
        "nwid": format_nwid(request.nwid),
        "metadata": numbers | {key: entries[key].decode() for key in entries if key == "o"},
        "metadata_keys": list(entries),
        "metadata_length": len(request.metadata),
        "have_revision": request.revision,
        "have_timestamp": request.timestamp,
    }


def _direct_paths(payload: bytes) -> Described:
    push = PushDirectPaths.decode(payload)
    paths = [{"flags": p.flags, "endpoint": p.endpoint.text()} for p in push.paths]
    return push, {"paths": paths}


def _rendezvous(payload: bytes) -> Described:
    r = Rendezvous.decode(payload)
    return r, {"flags": r.flags, "peer": format_address(r.peer), "endpoint": r.endpoint.text()}


def _likes(payload: bytes) -> Described:
    likes = MulticastLike.decode(payload)
    return likes, {"groups": [_group(like.nwid, like.group) for like in likes.likes]}


def _frame(payload: bytes) -> Described:
    f = Frame.decode(payload)
    return f, {"nwid": format_nwid(f.nwid), "ethertype": f"{f.ethertype:04x}", "frame_length": len(f.payload)}


def _qos(payload: bytes) -> Described:
    qos = QosMeasurement.decode(payload)
    records = [{"packet_id": format_nwid(r.packet_id), "holding_ms": r.holding_ms} for r in qos.records]
    return qos, {"records": records}


def _trace(payload: bytes) -> Described:
    trace = RemoteTrace.decode(payload)
    return trace, {"traces": [{k: v.decode("latin-1") for k, v in t.items()} for t in trace.entries()]}


def _user_message(payload: bytes) -> Described:
    message = UserMessage.decode(payload)
    return message, {"type": message.type, "data": message.data.hex()}


def _whois(payload: bytes) -> Described:
    whois = Whois.decode(payload)
    return whois, {"addresses": _addresses(whois.addresses)}


def _echo(payload: bytes) -> Described:
    echo = Echo.decode(payload)
    return echo, {"echo_payload": echo.data.hex()}


_PLAIN: dict[Verb, Callable[[bytes], Described]] = {
    Verb.WHOIS: _whois,
    Verb.RENDEZVOUS: _rendezvous,
    Verb.FRAME: _frame,
    Verb.EXT_FRAME: _ext_frame,
    Verb.ECHO: _echo,
    Verb.MULTICAST_LIKE: _likes,
    Verb.NETWORK_CONFIG_REQUEST: _config_request,
    Verb.MULTICAST_FRAME: _multicast_frame,
    Verb.PUSH_DIRECT_PATHS: _direct_paths,
    Verb.QOS_MEASUREMENT: _qos,
    Verb.USER_MESSAGE: _user_message,
    Verb.REMOTE_TRACE: _trace,
}


def describe(
    verb: Verb, payload: bytes, packet_id: int, keys: SessionKeys, known: dict[int, Identity], fields: Json
) -> tuple[bytes, Json]:
    """(the payload encoded again, its description). `fields` only tells the two kinds of OK to ECHO apart."""
    if verb is Verb.OK:
        ok = Ok.decode(payload)
        body, result = _ok_body(ok, fields, known)
        head = {"in_re_verb": ok.in_re_verb.name, "in_re_id": format_nwid(ok.in_re_id)}
        return Ok(ok.in_re_verb, ok.in_re_id, body.encode()).encode(), head | result
    if verb is Verb.ERROR:
        error = Error.decode(payload)
        encoded, result = _error_body(error)
        head = {"in_re_verb": error.in_re_verb.name, "in_re_id": format_nwid(error.in_re_id)}
        return Error(error.in_re_verb, error.in_re_id, error.code, encoded).encode(), head | result
    if verb is Verb.HELLO:
        value, result = _hello(payload, keys, packet_id)
    elif verb is Verb.NETWORK_CREDENTIALS:
        value, result = _credentials(payload, known)
    elif verb is Verb.MULTICAST_GATHER:
        value, result = _gather(payload, known)
    elif verb is Verb.NETWORK_CONFIG:
        value = ConfigChunk.decode(payload)
        result = _chunk(value, known)
    else:
        value, result = _PLAIN[verb](payload)
    return value.encode(), result

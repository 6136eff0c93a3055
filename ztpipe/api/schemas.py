"""The types of the versioned API (`/v1`): what goes in, strictly checked, and what comes out.

The document at /openapi.json is made of these, and `ztpipe.client` speaks them.  Times are ms since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Time = Annotated[int, Meta(ge=0, le=0x7FFFFFFFFFFFFFFF)]
Revision = Annotated[int, Meta(ge=0)]
NetworkId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{16}$")]
NodeId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{10}$")]
Limit = Annotated[int, Meta(ge=1, le=1000)]
Text = Annotated[str, Meta(max_length=10_000)]
Rule = dict[str, Any]


class In(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Given by a client: an unknown field is an error, a missing one keeps its value."""


class Out(msgspec.Struct, kw_only=True):
    """Given to a client, which ignores fields that it does not know."""


class Route(In):
    """A managed route; `target` is IP/bits, `via` null = reached on the link itself."""

    target: str
    via: str | None = None


class Pool(In):
    """A range that members are given addresses from; both ends of one family."""

    ipRangeStart: str
    ipRangeEnd: str


class V4Mode(In):
    """Where IPv4 addresses come from: `zt` = the pools."""

    zt: bool = False


class V6Mode(In):
    """Where IPv6 addresses come from."""

    zt: bool = False
    rfc4193: bool = False
    sixplane: bool = msgspec.field(name="6plane", default=False)


class TagDefinition(In):
    """A tag, and the value that members get who have none; null = they stay without."""

    id: U32
    default: U32 | None = None


class CapabilityDefinition(In):
    """A bundle of rules given to members; `default`: to new ones without asking."""

    id: U32
    rules: list[Rule]
    default: bool = False


class Dns(In):
    """Domain and servers pushed to members; both empty = none."""

    domain: Annotated[str, Meta(max_length=127)] = ""
    servers: Annotated[list[str], Meta(max_length=4)] = []


class NetworkPatch(In):
    """Changes of a network.  `rulesSource` is compiled into rules, capabilities and tags, and kept."""

    name: Annotated[str, Meta(max_length=127)] | UnsetType = UNSET
    private: bool | UnsetType = UNSET
    enableBroadcast: bool | UnsetType = UNSET
    multicastLimit: U32 | UnsetType = UNSET
    mtu: Annotated[int, Meta(ge=1280, le=10000)] | UnsetType = UNSET
    v4AssignMode: V4Mode | UnsetType = UNSET
    v6AssignMode: V6Mode | UnsetType = UNSET
    routes: Annotated[list[Route], Meta(max_length=128)] | UnsetType = UNSET
    ipAssignmentPools: Annotated[list[Pool], Meta(max_length=1024)] | UnsetType = UNSET
    rules: Annotated[list[Rule], Meta(max_length=1024)] | UnsetType = UNSET
    rulesSource: Annotated[str, Meta(max_length=1 << 18)] | UnsetType = UNSET
    capabilities: Annotated[list[CapabilityDefinition], Meta(max_length=128)] | UnsetType = UNSET
    tags: Annotated[list[TagDefinition], Meta(max_length=128)] | UnsetType = UNSET
    dns: Dns | UnsetType = UNSET
    authTokens: dict[str, Time] | UnsetType = UNSET
    remoteTraceTarget: NodeId | UnsetType | None = UNSET
    remoteTraceLevel: U32 | UnsetType = UNSET


class MemberPatch(In):
    """Changes of a member.  At `expiresAt` it is deauthorised, 0 = never."""

    authorized: bool | UnsetType = UNSET
    name: Text | UnsetType = UNSET
    notes: Text | UnsetType = UNSET
    expiresAt: Time | UnsetType = UNSET
    activeBridge: bool | UnsetType = UNSET
    noAutoAssignIps: bool | UnsetType = UNSET
    ipAssignments: Annotated[list[str], Meta(max_length=32)] | UnsetType = UNSET
    tags: Annotated[list[tuple[U32, U32]], Meta(max_length=128)] | UnsetType = UNSET
    capabilities: Annotated[list[U32], Meta(max_length=128)] | UnsetType = UNSET
    remoteTraceTarget: NodeId | UnsetType | None = UNSET
    remoteTraceLevel: U32 | UnsetType = UNSET


class MembersPatch(In):
    """Changes of several members, made all or, if one is refused, none."""

    members: Annotated[dict[NodeId, MemberPatch], Meta(max_length=10_000)]


class NetworkMeta(Out):
    """Counts of a network's members."""

    authorizedMemberCount: int
    totalMemberCount: int


class Network(Out):
    """A network."""

    id: str
    name: str
    creationTime: int
    revision: int
    private: bool
    enableBroadcast: bool
    multicastLimit: int
    mtu: int
    v4AssignMode: V4Mode
    v6AssignMode: V6Mode
    routes: list[Route]
    ipAssignmentPools: list[Pool]
    rules: list[Rule]
    rulesSource: str
    capabilities: list[Any]
    tags: list[Any]
    dns: Dns | None
    authTokens: dict[str, int]
    remoteTraceTarget: str | None
    remoteTraceLevel: int
    meta: NetworkMeta | None = None


class MemberMeta(Out):
    """What is known of a member since the controller started: asked within 2 minutes, time of the last request."""

    online: bool
    lastSeen: int | None


class Member(Out):
    """A member of a network."""

    id: str
    nwid: str
    name: str
    notes: str
    authorized: bool
    expiresAt: int
    creationTime: int
    revision: int
    identity: str | None
    activeBridge: bool
    noAutoAssignIps: bool
    ipAssignments: list[str]
    tags: list[tuple[int, int]]
    capabilities: list[int]
    lastAuthorizedTime: int
    lastDeauthorizedTime: int
    lastAuthorizedCredentialType: str | None
    remoteTraceTarget: str | None
    remoteTraceLevel: int
    vMajor: int
    vMinor: int
    vRev: int
    vProto: int
    meta: MemberMeta | None = None


class ListMeta(Out):
    """`total` counts all that the filters let through; `next` is the `after` of the next page, null = the last."""

    total: int
    next: str | None


class NetworkList(Out):
    """A page of networks."""

    data: list[Network]
    meta: ListMeta


class MemberList(Out):
    """A page of members."""

    data: list[Member]
    meta: ListMeta


class AuditLine(Out):
    """A change: who (the token's name), when, what.  `changes` is field to [old, new]."""

    id: int
    time: int
    actor: str
    action: str
    nwid: str | None
    member: str | None
    revision: int | None
    changes: dict[str, Any]


class AuditList(Out):
    """Lines of the audit log, newest first; `next` is the `before` of the next page."""

    data: list[AuditLine]
    next: int | None


class ControllerStatus(Out):
    """The controller itself."""

    address: str
    clock: int
    networks: int
    members: int


class Problem(Out):
    """Why a request was refused; `line`, `column` and `hint` for sources of rules, `revision` for If-Match."""

    error: str
    field: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    column: int | UnsetType = UNSET
    hint: str | UnsetType = UNSET
    revision: int | UnsetType | None = UNSET


class NetworkListQuery(In):
    """Filters of networks."""

    after: NetworkId = "0" * 16
    limit: Limit = 100
    q: str = ""
    private: bool | None = None


class MemberListQuery(In):
    """Filters of members."""

    after: NodeId = "0" * 10
    limit: Limit = 100
    q: str = ""
    authorized: bool | None = None
    online: bool | None = None
    bridge: bool | None = None
    tag: U32 | None = None


class AuditQuery(In):
    """Filters of the audit log."""

    before: Time | None = None
    limit: Limit = 100
    nwid: NetworkId | None = None
    member: NodeId | None = None


class DeleteQuery(In):
    """`forget`: the member may come back by asking."""

    forget: bool = False


class NoQuery(In):
    """No parameters."""

"""One real node on a bench, and puppets around it: peers that say exactly what a test wants, and open what they get."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.node.sim import START, identities, planet_of
from ztpipe.node.actions import Action, Drop, Event, SendDatagram
from ztpipe.node.node import Node
from ztpipe.node.seam import NullVl2
from ztpipe.node.settings import Binding, NodeSettings
from ztpipe.wire.armor import Opened, SessionKeys, open_packet, seal
from ztpipe.wire.identity import Identity
from ztpipe.wire.inetaddress import InetAddress
from ztpipe.wire.packet import split, with_hops
from ztpipe.wire.protocol import Verb
from ztpipe.wire.verbs import Hello, Ok, OkHello, seal_hello
from ztpipe.wire.world import Root

BINDING = 1
LOCAL = InetAddress(bytes((10, 9, 9, 9)), 9993)


@dataclass
class Puppet:
    """A remote peer. `remote`: where its datagrams come from."""

    identity: Identity
    remote: InetAddress
    keys: SessionKeys
    protocol: int = 12

    @property
    def address(self) -> int:
        return self.identity.address


class Bench:
    """The node under test, with `now`, what it dropped and reported, and what it sent since the last look."""

    def __init__(self, *, roots: int = 1, settings: NodeSettings | None = None, **options: Any) -> None:
        self.now = START
        self.random = random.Random(7)
        self.identity = identities()[40]
        self.drops: Counter[str] = Counter()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.out: list[Action] = []
        self.root_puppets = [self.puppet(number) for number in range(roots)]
        planet = options.pop("planet", None) or planet_of(
            Root(root.identity.without_private(), (root.remote,)) for root in self.root_puppets
        )
        options.setdefault("vl2", lambda vl1, networks: NullVl2())
        self.node = Node(
            self.identity, random=self.random.randbytes, planet=planet, settings=settings or NodeSettings(), **options
        )
        self.node.set_bindings(self.now, [Binding(BINDING, LOCAL, "eth0")])
        self.node.start(self.now)
        self.collect()

    @property
    def root(self) -> Puppet:
        return self.root_puppets[0]

    def puppet(self, number: int, identity: Identity | None = None) -> Puppet:
        """Puppet `number`, in a /24 of its own."""
        identity = identity or identities()[number]
        remote = InetAddress(bytes((10, 2, number, 1)), 9993)
        return Puppet(identity, remote, SessionKeys(identity.agree(self.identity)))

    # -- making things happen -----------------------------------------------------------------------------------

    def collect(self) -> list[Action]:
        """Take what the node emitted: into `out`, and as the result."""
        actions = self.node.take_actions()
        for action in actions:
            if isinstance(action, Drop):
                self.drops[action.reason] += action.count
            elif isinstance(action, Event):
                self.events.append((action.kind, dict(action.fields)))
        self.out += actions
        return actions

    def datagram(self, data: bytes, remote: InetAddress) -> list[Action]:
        self.node.datagram_received(self.now, BINDING, remote, data)
        return self.collect()

    def packet(self, puppet: Puppet, verb: Verb, payload: bytes, **options: Any) -> bytes:
        return seal(
            puppet.keys,
            destination=options.pop("destination", self.identity.address),
            source=puppet.address,
            verb=verb,
            payload=payload,
            packet_id=self.random.getrandbits(64),
            suite=options.pop("suite", 1),
            **options,
        )

    def say(
        self,
        puppet: Puppet,
        verb: Verb,
        payload: bytes = b"",
        *,
        hops: int = 0,
        remote: InetAddress | None = None,
        **options: Any,
    ) -> list[Action]:
        """One packet of `puppet` arrives."""
        actions: list[Action] = []
        for piece in split(self.packet(puppet, verb, payload, **options), options.get("mtu", 1432)):
            actions += self.datagram(with_hops(piece, hops), remote or puppet.remote)
        return actions

    def hello(self, puppet: Puppet, *, remote: InetAddress | None = None, **fields: Any) -> list[Action]:
        moons = fields.pop("moons", ())
        fields.setdefault("protocol", puppet.protocol)
        fields.setdefault("sent_to", LOCAL)
        hello = Hello(timestamp=self.now, identity=puppet.identity, **fields)
        packet = seal_hello(
            puppet.keys, hello, moons, destination=self.identity.address, packet_id=self.random.getrandbits(64)
        )
        return self.datagram(packet, remote or puppet.remote)

    def meet(self, puppet: Puppet) -> None:
        """Both know each other and have a path: HELLO each way, OK each way."""
        actions = self.hello(puppet)
        hellos = [opened for opened in self.opened(puppet, actions) if opened.verb is Verb.HELLO]
        assert hellos, "no HELLO in return"
        self.answer_hello(puppet, hellos[0])
        assert puppet.remote in self.paths(puppet)

    def answer_hello(self, puppet: Puppet, hello: Opened, **fields: Any) -> list[Action]:
        fields.setdefault("received_from", LOCAL)
        fields.setdefault("protocol", puppet.protocol)
        body = OkHello(timestamp=Hello.decode(hello.payload).timestamp, **fields).encode()
        return self.say(puppet, Verb.OK, Ok(Verb.HELLO, hello.packet_id, body).encode())

    def pass_time(self, duration: int) -> list[Action]:
        """Let time pass, ticking when the node wants it."""
        actions: list[Action] = []
        end = self.now + duration
        while self.node.next_deadline() <= end:
            self.now = max(self.node.next_deadline(), self.now)
            self.node.tick(self.now)
            actions += self.collect()
        self.now = end
        return actions

    # -- looking ------------------------------------------------------------------------------------------------

    def datagrams(self, actions: list[Action], puppet: Puppet) -> list[bytes]:
        """Whole packets in `actions` from the node itself to `puppet`, wherever they go."""
        addresses = puppet.address.to_bytes(5, "big") + self.identity.address.to_bytes(5, "big")
        sent = [action.data for action in actions if isinstance(action, SendDatagram)]
        return [data for data in sent if len(data) >= 28 and data[8:18] == addresses]

    def opened(self, puppet: Puppet, actions: list[Action]) -> list[Opened]:
        """What the node said to `puppet` in `actions`."""
        return [open_packet(puppet.keys, data) for data in self.datagrams(actions, puppet)]

    def verbs(self, puppet: Puppet, actions: list[Action]) -> list[Verb]:
        return [opened.verb for opened in self.opened(puppet, actions)]

    def answer(self, puppet: Puppet, actions: list[Action], in_re: Verb) -> Ok:
        """The one OK to a packet with verb `in_re`."""
        oks = [Ok.decode(opened.payload) for opened in self.opened(puppet, actions) if opened.verb is Verb.OK]
        (found,) = [ok for ok in oks if ok.in_re_verb is in_re]
        return found

    def status(self, puppet: Puppet) -> Any:
        return next((s for s in self.node.peers(self.now) if s.address == puppet.address), None)

    def paths(self, puppet: Puppet) -> list[InetAddress]:
        status = self.status(puppet)
        return [path.remote for path in status.paths] if status is not None else []

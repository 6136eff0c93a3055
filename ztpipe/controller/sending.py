"""The packets that carry the controller's answers (controller §7.2, §8.9, §9.3; vl2 §2.5, §2.10)."""

from __future__ import annotations

from typing import Final

from ztpipe.controller.actions import ControllerAction, LocalConfig, LocalError, SendPacket
from ztpipe.controller.addresses import Random
from ztpipe.wire.credentials import CredentialType, Revocation
from ztpipe.wire.identity import Identity
from ztpipe.wire.netconf import NetworkConfig, chunk_config
from ztpipe.wire.protocol import ErrorCode, Verb
from ztpipe.wire.verbs import Error, NetworkCredentials, Ok

#: Packet ID of what nobody asked for.
UNASKED: Final = 0


class Sender:
    """Makes actions out of answers; holds nothing but the controller's identity."""

    def __init__(self, identity: Identity, random: Random) -> None:
        self._identity = identity
        self._random = random

    def config(self, member: int, config: NetworkConfig, packet_id: int) -> list[ControllerAction]:
        """A configuration in signed chunks: the OK to request `packet_id`, or a push."""
        dictionary = config.encode()
        if member == self._identity.address:
            return [LocalConfig(config.network_id, dictionary)]
        update_id = int.from_bytes(self._random(8), "big") or 1
        chunks = chunk_config(dictionary, config.network_id, update_id, self._identity.sign)
        if packet_id == UNASKED:
            return [SendPacket(member, Verb.NETWORK_CONFIG, chunk, True) for chunk in chunks]
        answers = (Ok(Verb.NETWORK_CONFIG_REQUEST, packet_id, chunk).encode() for chunk in chunks)
        return [SendPacket(member, Verb.OK, answer, True) for answer in answers]

    def error(self, member: int, nwid: int, packet_id: int, code: ErrorCode, data: bytes) -> list[ControllerAction]:
        """An error in reply to request `packet_id`, or to none: members take "denied" even so (vl2 §2.10)."""
        if member == self._identity.address:
            return [LocalError(nwid, code)]
        error = Error(Verb.NETWORK_CONFIG_REQUEST, packet_id, code, nwid.to_bytes(8, "big") + data)
        return [SendPacket(member, Verb.ERROR, error.encode(), False)]

    def revocation(self, nwid: int, target: int, threshold: int) -> Revocation:
        """The signed revocation of a member's certificate of membership, to be spread by members (controller §9.3)."""
        return Revocation(
            id=int.from_bytes(self._random(4), "big"),
            nwid=nwid,
            credential_id=0,
            threshold=threshold,
            flags=Revocation.FAST_PROPAGATE,
            target=target,
            credential_type=CredentialType.COM,
        ).sign(self._identity)

    def revocations(self, member: int, batch: tuple[Revocation, ...]) -> ControllerAction:
        """One packet of credentials holding revocations only."""
        return SendPacket(member, Verb.NETWORK_CREDENTIALS, NetworkCredentials(revocations=batch).encode(), True)

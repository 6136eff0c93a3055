"""``zerotier-cli``: same words, output and exit status as the reference (service §2).

Standard library only, and nothing imported before it is needed: scripts and health checks call this every second.
"""

from __future__ import annotations

import os
import sys
import time

from ztpipe.cli.client import Client, LookupFailure, Reply, find_home, find_port, find_token
from ztpipe.cli.version import REFERENCE_VERSION

TYPE_CHECKING = False  # not from typing: see ztpipe.cli.client
if TYPE_CHECKING:
    from typing import Any, Final

USAGE: Final = """\
zerotier-cli: control a running node (ztpipe, compatible with ZeroTier One {version})
Usage: {program} [switches] <command or /path> [arguments]

Switches:
  -j                          JSON output
  -D<directory>               home directory, to find port and token
  -p<port>                    TCP port of the service
  -T<token>                   token of the service
  -v                          print the version
  -h                          print this text

Commands:
  info                        address, version and state of this node
  listpeers                   known peers, for scripts
  peers                       known peers, aligned
  listnetworks                joined networks
  join <network>              join a network (16 hex digits)
  leave <network>             leave a network
  set <network> <key>=<0|1>   allowManaged, allowGlobal, allowDefault or allowDNS
  get <network> <property>    a property of listnetworks -j, or ip, ip4, ip6, ip6plane, ip6prefix
  listmoons                   moons (additional roots)
  orbit <moon> <seed>         add a moon that the node <seed> knows
  deorbit <moon>              remove a moon
  dump                        write zerotier_dump.txt for a support request
"""
UNREACHABLE: Final = (
    "Error connecting to the ZeroTier service: {reason}\n\n"
    "Please check that the service is running and that TCP port 9993 can be contacted via 127.0.0.1."
)
_SETTABLE: Final = ("allowManaged", "allowGlobal", "allowDefault", "allowDNS")


class Usage(Exception):
    """The words make no sense: print the usage text."""

    def __init__(self, status: int, *, to_stderr: bool = False) -> None:
        super().__init__()
        self.status = status
        self.to_stderr = to_stderr


class Arguments:
    """The command line, taken apart. Switches and words may come in any order."""

    __slots__ = ("home", "host", "json_output", "port", "show_version", "token", "words")

    def __init__(self) -> None:
        self.json_output = False
        self.show_version = False
        self.home = ""
        self.port = 0
        self.token = ""
        self.host = "127.0.0.1"
        self.words: list[str] = []

    @property
    def command(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def first(self) -> str:
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def second(self) -> str:
        """The last of the further words, as in the reference."""
        return self.words[-1] if len(self.words) > 2 else ""


def parse(arguments: list[str]) -> Arguments:
    """Read the words behind the program name; raises `Usage`. ``-v`` ends the reading."""
    parsed = Arguments()
    for word in arguments:
        if not word.startswith("-"):
            parsed.words.append(word)
        elif _switch(parsed, word[1:2], word[2:]):
            break
    return parsed


def _switch(parsed: Arguments, letter: str, value: str) -> bool:
    """Apply one switch; True if nothing after it matters."""
    if letter in ("j", "q", "v"):
        if value:
            raise Usage(1)
        parsed.json_output |= letter == "j"
        parsed.show_version |= letter == "v"
        return parsed.show_version
    if letter == "p":
        parsed.port = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0
        if not 0 < parsed.port <= 65535:
            raise Usage(1)
    elif letter in ("D", "T", "H"):
        if not value:
            raise Usage(1)
        setattr(parsed, {"D": "home", "T": "token", "H": "host"}[letter], value)
    else:
        raise Usage(0)
    return False


class Session:
    """A client and the way to print what it gets."""

    __slots__ = ("client", "json_output")

    def __init__(self, client: Client, json_output: bool) -> None:
        self.client = client
        self.json_output = json_output

    def fetch(self, method: str, path: str, command: str, *, frame: bool) -> Any:
        """The document at `path`; None after printing why there is none. `frame`: the long text for no connection."""
        reply = self.client.request(method, path)
        if reply.status == 0 and frame:
            self.print_unreachable(reply.body)
            return None
        if reply.status != 200:
            print(f"{reply.status} {command} {reply.body}")
            _explain(reply.status)
            return None
        import json

        try:
            return json.loads(reply.body)
        except ValueError as error:
            print(f"{reply.status} {command} invalid JSON response ({error})")
            return None

    def print_unreachable(self, reason: str) -> None:
        print(UNREACHABLE.format(reason=reason))

    def print_json(self, document: object) -> None:
        """Indented by one blank a level, keys in order."""
        import json

        print(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False))

    def finish(self, reply: Reply, command: str, text: str = "") -> int:
        """Print a plain result: `text` or, for JSON output and without a text, the body as received."""
        if reply.status != 200:
            print(f"{reply.status} {command} {reply.body}")
            _explain(reply.status)
            return 1
        if self.json_output or not text:
            sys.stdout.write(reply.body)
        else:
            print(text)
        return 0


def _info(session: Session, arguments: Arguments) -> int:
    status = session.fetch("GET", "/status", arguments.command, frame=True)
    if status is None:
        return 1
    if session.json_output:
        session.print_json(status)
        return 0
    state = "TUNNELED" if status.get("tcpFallbackActive") else "ONLINE" if status.get("online") else "OFFLINE"
    print(f"200 info {status.get('address')} {status.get('version')} {state}")
    return 0


def _lists(session: Session, arguments: Arguments) -> int:
    """listpeers, peers, listnetworks, listmoons."""
    from ztpipe.cli import tables

    command = arguments.command
    path = {"listnetworks": "/network", "listmoons": "/moon"}.get(command, "/peer")
    found = session.fetch("GET", path, command, frame=True)
    if found is None:
        return 1
    if session.json_output or command == "listmoons":
        session.print_json(found)
        return 0
    form = {"listnetworks": tables.listnetworks, "listpeers": tables.listpeers, "peers": tables.peers}[command]
    print("\n".join(form(found, time.time_ns() // 1_000_000)))
    return 0


def _explain(status: int) -> None:
    """What the reference leaves unsaid, on stderr, where no script looks for an answer."""
    if status == 401:
        _hint("the service refused the token: give the content of its authtoken.secret with -T, or run as root")


def _hint(text: str) -> None:
    print(f"zerotier-cli: {text}", file=sys.stderr)


def _is_network_id(text: str) -> bool:
    """Whether it can name a network; if not, why is said. Words of the right length go to the service, as ever."""
    if len(text) != 16 or not set(text) <= set("0123456789abcdefABCDEF"):
        _hint(f"{text!r} is not a network id: 16 hexadecimal digits are needed, as in 8056c2e21c000001")
    return len(text) == 16


def _join(session: Session, arguments: Arguments) -> int:
    if not _is_network_id(arguments.first):
        print("invalid network id")
        return 2
    return session.finish(session.client.request("POST", f"/network/{arguments.first}", "{}"), "join", "200 join OK")


def _leave(session: Session, arguments: Arguments) -> int:
    if not _is_network_id(arguments.first):
        print("invalid network id")
        return 2
    reply = session.client.request("DELETE", f"/network/{arguments.first}")
    if reply.status == 200 and "result" not in reply.body:
        _hint(f"network {arguments.first} was not joined: there was nothing to leave (see listnetworks)")
    return session.finish(reply, "leave", "200 leave OK")


def _set(session: Session, arguments: Arguments) -> int:
    problem = _network_and_property(arguments, "set")
    if problem:
        return problem
    key, equals, value = arguments.second.partition("=")
    if not equals:
        raise Usage(2, to_stderr=True)
    if key not in _SETTABLE:
        return 0
    body = f'{{"{key}": {"true" if value.startswith(("t", "1")) else "false"}}}'
    return session.finish(session.client.request("POST", f"/network/{arguments.first}", body), "set")


def _get(session: Session, arguments: Arguments) -> int:
    problem = _network_and_property(arguments, "get")
    if problem:
        return problem
    reply = session.client.request("GET", "/network")
    if reply.status == 0:
        session.print_unreachable(reply.body)
        return 1
    import json

    from ztpipe.cli import tables

    networks = json.loads(reply.body) if reply.status == 200 else []
    network = next((found for found in networks if found.get("nwid") == arguments.first), None)
    if network is not None:
        print(tables.property_text(network, arguments.second))
        return 0
    print("unknown network ID, check that you are a member of the network", file=sys.stderr)
    if reply.status == 200:
        return 0
    print(f"{reply.status} get {reply.body}")
    return 1


def _network_and_property(arguments: Arguments, verb: str) -> int:
    if len(arguments.first) != 16:
        print("invalid format: must be a 16-digit (network) ID", file=sys.stderr)
        return 2
    if not arguments.second:
        print(f"invalid format: include a property name to {verb}", file=sys.stderr)
        return 2
    return 0


def _orbit(session: Session, arguments: Arguments) -> int:
    """Without a usable moon and seed the reference does nothing at all, and says so with status 0."""
    try:
        usable = int(arguments.first, 16) and int(arguments.second, 16)
    except ValueError:
        usable = 0
    if not usable:
        return 0
    body = f'{{"seed": "{arguments.second.strip()}"}}'  # a hexadecimal number, as checked above
    return session.finish(session.client.request("POST", f"/moon/{arguments.first}", body), "orbit", "200 orbit OK")


def _deorbit(session: Session, arguments: Arguments) -> int:
    return session.finish(session.client.request("DELETE", f"/moon/{arguments.first}"), "deorbit", "200 deorbit OK")


def _bond(session: Session, arguments: Arguments) -> int:
    from ztpipe.cli import bond

    return bond.listing(session) if arguments.command == "listbonds" else bond.run(session, arguments.words[1:])


def _dump(session: Session, arguments: Arguments) -> int:
    from ztpipe.cli import dump

    return dump.run(session, find_home(arguments.home))


_COMMANDS: Final = {
    "info": _info,
    "status": _info,
    "listpeers": _lists,
    "peers": _lists,
    "listnetworks": _lists,
    "listmoons": _lists,
    "join": _join,
    "leave": _leave,
    "set": _set,
    "get": _get,
    "orbit": _orbit,
    "deorbit": _deorbit,
    "bond": _bond,
    "listbonds": _bond,
    "dump": _dump,
}


def run(arguments: list[str], program: str) -> int:
    """Carry out the words behind the program name; returns the exit status."""
    try:
        parsed = parse(arguments)
        if parsed.show_version:
            print(REFERENCE_VERSION)
            return 0
        home = find_home(parsed.home)
        client = Client(parsed.host, find_port(parsed.port, home), find_token(parsed.token, home))
        session = Session(client, parsed.json_output)
        if parsed.command.startswith("/"):
            return session.finish(client.request("GET", parsed.command), parsed.command)
        handler = _COMMANDS.get(parsed.command)
        if handler is None:
            raise Usage(0, to_stderr=True)
        return handler(session, parsed)
    except LookupFailure as failure:
        print(f"{program}: {failure}", file=sys.stderr)
        return 2
    except Usage as usage:
        text = USAGE.format(program=program, version=REFERENCE_VERSION)
        (sys.stderr if usage.to_stderr else sys.stdout).write(text)
        return usage.status


def main() -> int:
    """Entry point of ``zerotier-cli``."""
    program = os.path.basename(sys.argv[0])
    try:
        status = run(sys.argv[1:], program)
        sys.stdout.flush()
    except BrokenPipeError:  # "zerotier-cli peers | head -1"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())

"""`server.toml`: read, and checked whole, so that one look at the errors is enough to mend them all.

The only place that knows the file's keys, their defaults and what is allowed together. It opens no socket and looks at
nothing of the host: whether an address is ours or a folder exists is found out by whoever uses it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from spa_protocol.invite import MAX_HOSTS
from spa_protocol.tag import MAX_SLOTS, MIN_SLOTS
from spa_server.addresses import LoopbackPort, listen_address, loopback_port, reach_address
from spa_server.service import MAX_PORTS, Address, Service
from spa_server.service_table import BLANK, read_services
from spa_server.toml_table import Bad, Problem, Table, flag, table, text, whole

DEFAULT_PATH = Path("/etc/spa/server.toml")
DEFAULT_LISTEN = ("0.0.0.0", "::")  # noqa: S104  a server is there to be reached; the kernel gate stands before it
DEFAULT_KNOCK_PORT = 62201
DEFAULT_STATE_FOLDER = "/var/lib/spa"
DEFAULT_CONTROL_SOCKET = "/run/spa/control.sock"
DEFAULT_USER = "spa"
DEFAULT_MAX_SKEW_S = 60
DEFAULT_SLOTS = MIN_SLOTS
DEFAULT_AUDIT_FILE_MIB = 64
DEFAULT_AUDIT_FILES = 8

_LARGEST_FILE = 1 << 20
_LONGEST_SOCKET_PATH = 107  # sun_path, unix(7), without its final NUL
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_WHERE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds all that is wrong; as text, one line each."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("\n".join(f"{path.name}: {problem}" for problem in problems))


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All of server.toml. `addresses` is what invites tell clients; `listen` is where knocks are heard."""

    path: Path
    addresses: tuple[str, ...]
    listen: tuple[Address, ...]
    knock_port: int
    state_folder: Path
    control_socket: Path
    user: str
    max_skew_s: int
    slots: int
    replies: bool
    services: tuple[Service, ...]
    audit_file: Path
    audit_file_mib: int
    audit_files: int
    metrics: Path | LoopbackPort | None

    @property
    def perimeter_folder(self) -> Path:
        """Where the firewall process's sockets are: `channel` for the network process, `control` for root."""
        return self.control_socket.parent / "perimeter"


def load(path: Path) -> ServerConfig:
    """Read and check the file. Raises ConfigError, with every problem that was found."""
    values = _parse(path)
    problems: list[Problem] = []
    top = Table("", values, problems)
    nothing: dict[str, object] = {}
    server = top.one("server", table, nothing)
    services = top.one("service", table, nothing)
    top.finish()
    config = _server(path, Table("server", server, problems))
    config = replace(config, services=read_services(services, problems))
    for service in config.services:
        if any(protocol == "udp" and port == config.knock_port for protocol, port in service.ports()):
            said = f"udp port {config.knock_port}"
            problems.append(Problem(f"service.{service.name}.udp", said, "any port but server.knock_port"))
    if problems:
        raise ConfigError(path, tuple(problems))
    return config


def control_socket_of(path: Path) -> Path | None:
    """What the file says of the control socket, though it may be wrong in other keys; None where it is no TOML."""
    try:
        server = _parse(path).get("server")
    except ConfigError:
        return None
    problems: list[Problem] = []
    return _server(path, Table("server", server, problems)).control_socket if isinstance(server, dict) else None


def _parse(path: Path) -> dict[str, object]:
    def wrong(what: str, where: str = "") -> ConfigError:
        return ConfigError(path, (Problem(where, "", what),))

    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise wrong(f"there is no {path}; run: spa-server init") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise wrong(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > _LARGEST_FILE:
        raise wrong(f"it is larger than {_LARGEST_FILE} bytes")
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise wrong("this is not UTF-8 text", f"line {line}") from None
    try:
        return tomllib.loads(content)
    except RecursionError:
        raise wrong("it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python reads
        found = _WHERE.fullmatch(str(error))
        if found is None:
            raise wrong(str(error)) from None
        lines = content.split("\n")
        where = (found[2], found[3]) if found[2] else (len(lines), len(lines[-1]) + 1)
        raise wrong(found[1], "line {}, column {}".format(*where)) from None


def _server(path: Path, keys: Table) -> ServerConfig:
    keys.required("addresses", "a list of the names or addresses at which clients reach this host")
    config = ServerConfig(
        path=path,
        addresses=_few(keys, keys.many("addresses", reach_address, "names or addresses", ())),
        listen=keys.many("listen", listen_address, "addresses", map(listen_address, DEFAULT_LISTEN)),
        knock_port=keys.one("knock_port", whole(1, 65535), DEFAULT_KNOCK_PORT),
        state_folder=Path(keys.one("state_folder", _path(), DEFAULT_STATE_FOLDER)),
        control_socket=Path(keys.one("control_socket", _path(_LONGEST_SOCKET_PATH), DEFAULT_CONTROL_SOCKET)),
        user=keys.one("user", text(_unprivileged, "the name of a system user other than root"), DEFAULT_USER),
        max_skew_s=keys.one("max_skew_s", whole(1, 600, "seconds"), DEFAULT_MAX_SKEW_S),
        slots=keys.one("slots", whole(MIN_SLOTS, MAX_SLOTS), DEFAULT_SLOTS),
        replies=keys.one("replies", flag, True),
        services=(),
        audit_file=Path(keys.one("audit_file", _path(), "")),
        audit_file_mib=keys.one("audit_file_mib", whole(1, 4096, "MiB"), DEFAULT_AUDIT_FILE_MIB),
        audit_files=keys.one("audit_files", whole(2, 1000), DEFAULT_AUDIT_FILES),
        metrics=keys.one("metrics", _metrics_place, None),
    )
    keys.finish()
    if not keys.given("audit_file"):
        config = replace(config, audit_file=config.state_folder / "audit.jsonl")
    return config


def _metrics_place(value: object) -> Path | LoopbackPort:
    if isinstance(value, str) and value.startswith("/"):
        return Path(_path(_LONGEST_SOCKET_PATH)(value))
    return loopback_port(value)


def _path(longest: int = 4095) -> Callable[[object], str]:
    what = f"an absolute path of at most {longest} bytes"

    def read(value: object) -> str:
        if not isinstance(value, str) or not PurePosixPath(value).is_absolute() or not value.isprintable():
            raise Bad(what)
        if len(value.encode()) > longest or ".." in PurePosixPath(value).parts:
            raise Bad(what)
        return value

    return read


def _unprivileged(name: str) -> bool:
    return _USER.fullmatch(name) is not None and name != "root"


_TEMPLATE = """\
# The configuration of spa-server. Lines that start with '#' and a key show the default, or an example where there is
# none; take the '#' away to change one. After an edit run: spa-server reload. It checks the whole file first, and where
# anything is wrong it says so and changes nothing.

[server]
# The names or addresses at which clients reach this host, at most four: one name that has both IPv4 and IPv6 addresses
# is best. They are written into every invite.
addresses = [{addresses}]

# The addresses of this host on which knocks are heard. "0.0.0.0" and "::" are all of them.
#listen = ["0.0.0.0", "::"]

# The UDP port for knocks. It answers nobody who cannot knock.
#knock_port = {knock_port}

# Where devices, invites and used slots are kept: mode 0700, owned by the user below.
{state_folder}

# The socket through which the commands talk to the running server.
{control_socket}

# The system user as which the part that reads packets runs. It cannot be root.
{user}

# How far, in seconds, a client's clock may be off, either way: 1 to 600. More means more tags held open.
#max_skew_s = {max_skew_s}

# How many knocks a device may send in one minute: 16 to 64. Each is a one-time tag in the kernel. Clients learn the
# number from the server's answers, and use 16 until then.
#slots = {slots}

# Whether a verified knock is answered. With false clients must try the port to learn whether it opened.
#replies = true

# The audit trail: who was let in, refused, enrolled, put out, and what commands changed, one line of JSON each, so many
# MiB a file and so many files. It belongs to the user above. Where it cannot be written, nothing is granted.
#audit_file = {audit_file}
#audit_file_mib = {audit_file_mib}
#audit_files = {audit_files}

# Where Prometheus may read numbers: a loopback address and port, or the path of a Unix socket. Without it, nowhere.
#metrics = "127.0.0.1:9462"

# Each service is a table [service.NAME]: ports that exist only for whoever holds a lease on them.
[service.web]
# The ports, as numbers or ranges such as "9000-9010"; at most {max_ports} in all, none in two services.
tcp = [8443]
#udp = [8443]

# Who may open it: devices with at least one of these roles.
roles = ["admin"]

# How long a lease lasts, in seconds, when the client does not say, and the longest that it can ask for.
#lease_s = {lease_s}
#max_lease_s = {max_lease_s}

# Which source address is opened. "seen": the one the knock came from, unless it names one; "signed": only one that the
# knock names under its signature.
#source = "seen"

# What becomes of open connections when the lease ends: "cut" or "keep".
#on_expiry = "cut"

# The addresses at which the service is reached, where they differ from the one that was knocked at. Its ports are then
# closed at these and at this host's own; without hosts, at every address that this host forwards to, too.
#hosts = ["192.0.2.10", "2001:db8::10"]

# An inner host to which leased connections are redirected; a list for one target a family. Only for a single port of a
# protocol.
#forward_to = "10.0.0.5:443"

# With forward_to: whether the inner host sees this host's address as the source instead of the client's.
#masquerade = false
"""


def template(
    addresses: Sequence[str],
    *,
    state_folder: str = DEFAULT_STATE_FOLDER,
    control_socket: str = DEFAULT_CONTROL_SOCKET,
    user: str = DEFAULT_USER,
) -> str:
    """The commented server.toml of a new server that clients reach at the addresses.

    Raises ValueError for an address that nobody could reach, or for more than MAX_HOSTS.
    """
    if not 1 <= len(addresses) <= MAX_HOSTS:
        raise ValueError(f"a server has one to {MAX_HOSTS} names or addresses")
    return _TEMPLATE.format(
        addresses=", ".join(_quoted(reach_address(address)) for address in addresses),
        knock_port=DEFAULT_KNOCK_PORT,
        state_folder=_line("state_folder", state_folder, DEFAULT_STATE_FOLDER),
        control_socket=_line("control_socket", control_socket, DEFAULT_CONTROL_SOCKET),
        user=_line("user", user, DEFAULT_USER),
        max_skew_s=DEFAULT_MAX_SKEW_S,
        slots=DEFAULT_SLOTS,
        audit_file=_quoted(f"{state_folder.rstrip('/')}/audit.jsonl"),
        audit_file_mib=DEFAULT_AUDIT_FILE_MIB,
        audit_files=DEFAULT_AUDIT_FILES,
        max_ports=MAX_PORTS,
        lease_s=BLANK.lease_s,
        max_lease_s=BLANK.max_lease_s,
    )


def _line(key: str, value: str, default: str) -> str:
    """A line of the template: a comment where the value is the default."""
    return f"{'#' if value == default else ''}{key} = {_quoted(value)}"


def _quoted(value: str) -> str:
    """Text as a TOML basic string; JSON's form is one, as long as characters beyond 16 bits are left as they are."""
    return json.dumps(value, ensure_ascii=False)


def _few(keys: Table, addresses: tuple[str, ...]) -> tuple[str, ...]:
    if len(addresses) > MAX_HOSTS:
        keys.note("addresses", f"at most {MAX_HOSTS} names or addresses", said=f"{len(addresses)} addresses")
    return addresses

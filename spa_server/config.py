"""`server.toml`: read, and checked whole, so that one look at the errors is enough to mend them all.

The only place that knows the file's keys, their defaults and what is allowed together; how a new file looks is
`config_template`'s. It opens no socket and looks at
nothing of the host: whether an address is ours or a folder exists is found out by whoever uses it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from spa_protocol.limits import DELEGATE_SLOTS, MAX_HOSTS, MAX_KNOCK_PORTS, MAX_SLOTS, MIN_SLOTS
from spa_server.addresses import LoopbackPort, listen_address, loopback_port, reach_address
from spa_server.approval_table import USUAL as USUAL_APPROVAL
from spa_server.approval_table import ApprovalSettings, read_approval
from spa_server.risk_table import RiskSettings, read_risk
from spa_server.service import Address, Service
from spa_server.service_table import read_services
from spa_server.toml_table import Bad, Problem, Table, absolute_path, flag, table, text, whole

DEFAULT_PATH = Path("/etc/spa/server.toml")
DEFAULT_LISTEN = ("0.0.0.0", "::")  # noqa: S104  a server is there to be reached; the kernel gate stands before it
DEFAULT_KNOCK_PORT = 62201
DEFAULT_STATE_FOLDER = "/var/lib/spa"
DEFAULT_CONTROL_SOCKET = "/run/spa/control.sock"
DEFAULT_USER = "spa"
DEFAULT_MAX_SKEW_S = 60
DEFAULT_SLOTS = MIN_SLOTS
DEFAULT_DELEGATE_SLOTS = DELEGATE_SLOTS
DEFAULT_MAX_DELEGATION_S = 7 * 86_400
LONGEST_DELEGATION_S = 366 * 86_400
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


class ConfigForbidden(ConfigError):
    """This user may not read the configuration, which need not be wrong."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All of server.toml. `addresses` is what invites tell clients; `listen` is where knocks are heard."""

    path: Path
    addresses: tuple[str, ...]
    listen: tuple[Address, ...]
    knock_port: int
    more_knock_ports: tuple[int, ...]
    state_folder: Path
    control_socket: Path
    user: str
    max_skew_s: int
    slots: int
    delegate_slots: int
    max_delegation_s: int
    replies: bool
    services: tuple[Service, ...]
    audit_file: Path
    audit_file_mib: int
    audit_files: int
    audit_required: bool
    metrics: Path | LoopbackPort | None
    policy_file: Path | None
    risk: RiskSettings
    approval: ApprovalSettings = USUAL_APPROVAL

    @property
    def knock_ports(self) -> tuple[int, ...]:
        """Every UDP port on which knocks are taken, the one that clients try first before the others."""
        return (self.knock_port, *self.more_knock_ports)

    @property
    def perimeter_folder(self) -> Path:
        """Where the firewall process's sockets are: `channel` for the network process, `control` for root."""
        return self.control_socket.parent / "perimeter"

    @property
    def notice_board(self) -> Path:
        """Where the wishes stand for whoever tells people of them: `spa_server.announce.board`."""
        return self.control_socket.parent / "requests.json"

    @property
    def newest_use_file(self) -> Path:
        """Where the network process notes, for the length of a boot, what was used last."""
        return self.control_socket.parent / "newest-use"


def load(path: Path) -> ServerConfig:
    """Read and check the file. Raises ConfigError, with every problem that was found."""
    values = _parse(path)
    problems: list[Problem] = []
    top = Table("", values, problems)
    nothing: dict[str, object] = {}
    server = top.one("server", table, nothing)
    services = top.one("service", table, nothing)
    approval = read_approval(Table("approval", top.one("approval", table, nothing), problems))
    risk = read_risk(Table("risk", top.one("risk", table, nothing), problems))
    top.finish()
    config = _server(path, Table("server", server, problems))
    config = replace(config, services=read_services(services, problems), approval=approval, risk=risk)
    for service in config.services:
        for port in config.knock_ports:
            if ("udp", port) in service.ports():
                key = "knock_port" if port == config.knock_port else "more_knock_ports"
                problems.append(
                    Problem(f"service.{service.name}.udp", f"udp port {port}", f"any port but server.{key}")
                )
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
    except PermissionError as error:
        raise ConfigForbidden(path, (Problem("", "", f"{path} cannot be read: {error.strerror}"),)) from None
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
        more_knock_ports=keys.many("more_knock_ports", whole(1, 65535), "UDP ports", least=0),
        state_folder=Path(keys.one("state_folder", absolute_path(), DEFAULT_STATE_FOLDER)),
        control_socket=Path(keys.one("control_socket", absolute_path(_LONGEST_SOCKET_PATH), DEFAULT_CONTROL_SOCKET)),
        user=keys.one("user", text(_unprivileged, "the name of a system user other than root"), DEFAULT_USER),
        max_skew_s=keys.one("max_skew_s", whole(1, 600, "seconds"), DEFAULT_MAX_SKEW_S),
        slots=keys.one("slots", whole(MIN_SLOTS, MAX_SLOTS), DEFAULT_SLOTS),
        delegate_slots=keys.one("delegate_slots", _delegate_slots, DEFAULT_DELEGATE_SLOTS),
        max_delegation_s=keys.one(
            "max_delegation_s", whole(60, LONGEST_DELEGATION_S, "seconds"), DEFAULT_MAX_DELEGATION_S
        ),
        replies=keys.one("replies", flag, True),
        services=(),
        audit_file=Path(keys.one("audit_file", absolute_path(), "")),
        audit_file_mib=keys.one("audit_file_mib", whole(1, 4096, "MiB"), DEFAULT_AUDIT_FILE_MIB),
        audit_files=keys.one("audit_files", whole(2, 1000), DEFAULT_AUDIT_FILES),
        audit_required=keys.one("audit_required", flag, True),
        metrics=keys.one("metrics", _metrics_place, None),
        policy_file=_optional_path(keys, "policy_file"),
        risk=RiskSettings(),
    )
    keys.finish()
    _check_more_knock_ports(keys, config)
    if not keys.given("audit_file"):
        config = replace(config, audit_file=config.state_folder / "audit.jsonl")
    return config


def _delegate_slots(value: object) -> int:
    if value == 0 and not isinstance(value, bool):
        return 0
    try:
        return whole(DELEGATE_SLOTS, MAX_SLOTS)(value)
    except Bad:
        raise Bad(f"0, for no delegation at all, or a whole number from {DELEGATE_SLOTS} to {MAX_SLOTS}") from None


def _metrics_place(value: object) -> Path | LoopbackPort:
    if isinstance(value, str) and value.startswith("/"):
        return Path(absolute_path(_LONGEST_SOCKET_PATH)(value))
    return loopback_port(value)


def _optional_path(keys: Table, key: str) -> Path | None:
    value = keys.one(key, absolute_path(), None)
    return None if value is None else Path(value)


def _unprivileged(name: str) -> bool:
    return _USER.fullmatch(name) is not None and name != "root"


def _check_more_knock_ports(keys: Table, config: ServerConfig) -> None:
    ports = config.more_knock_ports
    if len(ports) >= MAX_KNOCK_PORTS:
        keys.note("more_knock_ports", f"at most {MAX_KNOCK_PORTS - 1}", said=f"{len(ports)} ports")
    if config.knock_port in ports:
        keys.note("more_knock_ports", "ports other than server.knock_port", said=str(config.knock_port))


def _few(keys: Table, addresses: tuple[str, ...]) -> tuple[str, ...]:
    if len(addresses) > MAX_HOSTS:
        keys.note("addresses", f"at most {MAX_HOSTS} names or addresses", said=f"{len(addresses)} addresses")
    return addresses

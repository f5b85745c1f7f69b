"""Which proxy stands between this machine and the service: read from the environment, the same for all transports.

The variables are those that people set for other programs, so whatever is written there is read with patience:
either case, ports, networks, wildcards, spaces and empty entries. What cannot be a proxy is an error that names
its variable. Loopback addresses are never asked through a proxy.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.util import find_spec
from urllib.parse import urlsplit

from clients.errors import ProxyError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROXIES = {
    "http": ("http_proxy", "all_proxy"),
    "https": ("https_proxy", "all_proxy"),
    "grpc": (
        "grpc_proxy",
        "https_proxy",
        "http_proxy",
        "all_proxy",
    ),  # in gRPC's own order, then what is left
}
_EXCEPTIONS = {"http": ("no_proxy",), "https": ("no_proxy",), "grpc": ("no_grpc_proxy", "no_proxy")}
_SPOKEN = {"http": ("http", "https", "socks5", "socks5h"), "grpc": ("http",)}
"""schemes of proxies that each transport can use"""


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the variable that named it."""

    url: str
    """with the user name and password, where there are any"""
    variable: str

    def __str__(self) -> str:
        return f"the proxy {_without_password(self.url)} (variable {self.variable})"


def proxy_for(
    scheme: str, host: str, port: int, *, environment: Mapping[str, str] | None = None
) -> Proxy | None:
    """The proxy for a service, or None where it is asked directly.

    Args:
        scheme: ``http``, ``https``, ``grpc`` or ``grpcs``.
        host: name or address, without brackets.
        port: of the service.
        environment: variables to read instead of the process's own.

    Raises:
        ProxyError: a variable names a proxy that cannot be one, or that this transport does not speak to.
    """
    variables = os.environ if environment is None else environment
    if is_loopback(host):
        return None
    kind = "grpc" if scheme.startswith("grpc") else scheme
    _, exceptions = _first(variables, _EXCEPTIONS[kind])
    if exceptions and bypasses(exceptions, scheme, host, port):
        return None
    variable, value = _first(variables, _PROXIES[kind])
    if not value:
        return None
    where = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    try:
        return Proxy(_checked(value, "grpc" if kind == "grpc" else "http"), variable)
    except ValueError as error:
        shown = f"{variable}={_without_password(value)!r}"
        reason = f"{shown}: {error}; mend or unset it, or name {host} in NO_PROXY"
        raise ProxyError(where, "find the proxy", reason) from None


def bypasses(exceptions: str, scheme: str, host: str, port: int) -> bool:
    """Whether the entries of ``NO_PROXY`` name a host.

    An entry is a name (which means its subdomains too), an address, a network such as ``10.0.0.0/8`` or
    ``fd00::/8``, or a pattern with ``*``; any of them may have a port, brackets or a scheme. An entry that is
    none of these names nothing, as with other programs.
    """
    host = host.lower().rstrip(".")
    address = _address(host)
    return any(
        _names(entry, scheme, host, address, port)
        for entry in re.split(r"[,;\s]+", exceptions.lower())
        if entry
    )


def is_loopback(host: str) -> bool:
    """Whether a name or address means this machine."""
    host = host.lower().rstrip(".")
    if host in ("localhost", "ip6-localhost", "ip6-loopback") or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _first(variables: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """The first of these variables that says something. An empty one in lower case hides that in upper case."""
    for name in names:
        for variable in (name, name.upper()):
            if variable == "HTTP_PROXY" and "REQUEST_METHOD" in variables:
                continue  # under CGI it is a header of somebody's request
            if variable in variables:
                value = variables[variable].strip()
                if value:
                    return variable, value
                break
    return "", ""


def _names(entry: str, scheme: str, host: str, address: Address | None, port: int) -> bool:
    meant, separator, rest = entry.partition("://")
    if separator:
        if meant not in ("all", scheme):
            return False
        entry = rest
    if entry == "*":
        return True
    if "/" in entry:
        try:
            network = ipaddress.ip_network(re.sub(r"[\[\]]", "", entry), strict=False)
        except ValueError:
            entry = entry.partition("/")[0]  # a path, which a host does not have
        else:
            return address is not None and address in network
    name, its_port = _split_port(entry)
    if its_port not in ("", "*", str(port)):
        return False
    its_address = _address(name)
    if its_address is not None:
        return its_address == address
    name = name.rstrip(".")
    if not name:
        return False
    domain = name.removeprefix("*").removeprefix(".")
    return fnmatchcase(host, name) or host == domain or (address is None and host.endswith("." + domain))


def _split_port(entry: str) -> tuple[str, str]:
    """``name:80``, ``[::1]:80``, ``[::1]``, and ``::1``, which has none."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", entry)
    if bracketed:
        return bracketed[1], bracketed[2] or ""
    name, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (name, port)


def _address(text: str) -> Address | None:
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        if not re.fullmatch(r"(0x[\da-f]+|\d+)(\.(0x[\da-f]+|\d+)){0,3}", text):
            return None
        try:  # what the system takes for an address as well, such as 127.1
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError:
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _checked(value: str, transport: str) -> str:
    """The address of a proxy in full.

    Raises:
        ValueError: why it cannot be used.
    """
    expected = "expected the address of a proxy, such as http://proxy.example.org:3128"
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None  # its words may hold a part of the password
    if any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        raise ValueError(f"{expected}; '/', '?' and '#' in its password must be written as %2F, %3F and %23")
    if port == 0 or not _is_host(parts.hostname or ""):
        raise ValueError(expected)
    scheme = parts.scheme.lower()
    if scheme not in _SPOKEN[transport]:
        spoken = " and ".join(_SPOKEN[transport])
        who = "gRPC goes" if transport == "grpc" else "this client goes"
        raise ValueError(f"{who} through proxies of kind {spoken}, not {scheme}")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ValueError("a SOCKS proxy needs the Python package socksio: pip install socksio")
    return parts._replace(scheme=scheme, path="", query="", fragment="").geturl()


def _is_host(host: str) -> bool:
    if ":" in host:
        return _address(host) is not None
    return re.fullmatch(r"(?!-)[^\W_]([\w-]*[^\W_])?(\.[^\W_]([\w-]*[^\W_])?)*\.?", host) is not None


def _without_password(url: str) -> str:
    """What stands before the last ``@``, also where a password holds what should have been encoded."""
    scheme, separator, rest = url.rpartition("://")
    _, at, rest = rest.rpartition("@")
    return f"{scheme}{separator}{'…@' if at else ''}{rest}"

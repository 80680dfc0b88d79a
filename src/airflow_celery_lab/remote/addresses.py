"""Which addresses this machine has, and which of them a lab may listen on. Data and rules, but for `own`."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

import psutil

from airflow_celery_lab.errors import ExposureError


def own() -> list[str]:
    """Return this machine's addresses that other machines may reach."""
    found = []
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family in {socket.AF_INET, socket.AF_INET6}:
                address = ipaddress.ip_address(one.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local):
                    found.append(str(address))
    return sorted(found)


def choose(text: str, existing: Sequence[str], *, public: bool) -> str:
    """Return the address that `text` names, of those that there are.

    Args:
        text: what the user has typed
        existing: this machine's addresses
        public: whether the user has agreed to one that the whole internet may reach

    Raises:
        ExposureError: it is none, or not one for this.

    """
    there_are = f"this machine has {_listed(existing)}" if existing else "this machine has none but loopback"
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ExposureError(f"{text!r} is not an IP address; {there_are}.") from error
    if address.is_unspecified:
        raise ExposureError(f"{address} means all addresses of this machine, and a lab listens on one; {there_are}.")
    if address.is_loopback:
        raise ExposureError(f"no other machine reaches {address}; {there_are}.")
    if address.is_link_local:
        raise ExposureError(f"{address} is valid on one link only, and differs in meaning between machines; {there_are}.")
    if str(address) not in existing:
        raise ExposureError(f"{address} is not an address of this machine; {there_are}.")
    if address.is_global and not public:
        raise ExposureError(f"{address} is a public address, which the whole internet may reach; add `--yes` if that is meant.")
    return str(address)


def _listed(addresses: Sequence[str]) -> str:
    *others, last = addresses
    return f"{', '.join(others)} and {last}" if others else last

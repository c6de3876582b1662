"""Which addresses belong to the public internet; whatever can lead back inside does not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_OUTSIDE = (
    IPv4Network("168.63.129.16/32"),  # public by its number, answered by the host below a virtual machine
    IPv4Network("192.0.0.0/24"),  # protocol assignments; a cloud's metadata lives at 192.0.0.192
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that is really reached: an IPv4 address wrapped into IPv6 comes out of its wrapping."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether this is an address of the public internet."""
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, IPv6Address):
        return address in _GLOBAL_UNICAST
    return not any(address in network for network in _NOT_OUTSIDE)

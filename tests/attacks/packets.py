"""What an attacker sends to see whom it reaches: by the usual way, and as packets of its own making."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time

from tests.attacks.inside import attempt

FIRST = 40000
"""The port that the first of some packets is from; each is from the next one."""


def syn(source: str, target: str, number: int, port: int) -> bytes:
    """A packet from port `number` that asks for a connection (RFC 9293) by IPv4 (RFC 791) or IPv6 (RFC 8200)."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    tcp = struct.pack("!HHIIBBHHH", number, port, 1, 0, 5 << 4, 2, 64240, 0, 0)
    tcp = _checked(tcp, ends + struct.pack("!HH", 6, len(tcp)), 16)
    if family == socket.AF_INET6:
        return struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + ends + tcp
    return _checked(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + ends, b"", 10) + tcp


def _checked(data: bytes, before: bytes, place: int) -> bytes:
    """The data with the sum of all its words, and of those before it, at a place in it (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(before + data) // 2}H", before + data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return data[:place] + struct.pack("!H", ~total & 0xFFFF) + data[place + 2 :]


def syns(source: str, addresses: list[str], port: int) -> list[str]:
    """What `forge` sends to these addresses: a packet to each, and one more to the last, in hexadecimal."""
    targets = enumerate([*addresses, addresses[-1]], FIRST)
    return [syn(source, target, number, port).hex() for number, target in targets]


def forge(addresses: list[str], packets: list[str], first: int) -> object:
    """The addresses from which a SYN is answered that leaves by the interface itself, past every route.

    The last one's answer is waited for twice: what comes of the second SYN comes after all that comes of the others.
    """
    group, kind = (b"\x33\x33\0\0\0\1", 0x86DD) if ":" in addresses[0] else (b"\xff" * 6, 0x0800)
    answered = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(kind)) as wire:
        wire.bind(("eth0", kind))
        wire.settimeout(5)
        header = group + wire.getsockname()[4] + struct.pack("!H", kind)
        *once, again = (header + bytes.fromhex(packet) for packet in packets)
        for frame in once:
            wire.send(frame)
        with contextlib.suppress(TimeoutError):
            while True:
                frame = wire.recv(2048)
                protocol, start = (frame[20], 54) if kind == 0x86DD else (frame[23], 14 + (frame[14] & 15) * 4)
                if protocol != 6 or frame[start + 13] & 0x12 != 0x12:
                    continue
                number = struct.unpack("!H", frame[start + 2 : start + 4])[0] - first
                if number == len(addresses):
                    break
                if number == len(addresses) - 1:
                    wire.send(again)
                answered.add(addresses[number])
    return sorted(answered)


def ask(addresses: list[str], port: int, by_the_interface: bool, seconds: float = 3) -> object:
    """The addresses by which a server says something in so many seconds, all asked at once, or when all have.

    By the interface itself is past the routes. A connection that gets no answer in five seconds is made anew.
    """
    found: list[str] = []
    end = time.monotonic() + seconds
    while True:
        asked = {}
        for address in set(addresses).difference(found):
            one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            if by_the_interface:
                one.setsockopt(socket.SOL_SOCKET, 25, b"eth0\0")  # SO_BINDTODEVICE
            one.setblocking(False)
            scope = socket.if_nametoindex("eth0") if address.startswith("fe80:") else 0
            place = (address, port, 0, scope) if ":" in address else (address, port)
            if attempt(one.connect, place) in (None, "EINPROGRESS"):
                asked[one.fileno()] = (one, address)
        poll = select.poll()
        for number in asked:
            poll.register(number, select.POLLIN)
        again = min(end, time.monotonic() + 5)
        while asked and (ready := poll.poll(max(0, again - time.monotonic()) * 1000)):
            for number, _ in ready:
                poll.unregister(number)
                one, address = asked.pop(number)
                if isinstance(answer := attempt(one.recv, 100), bytes) and answer:
                    found.append(address)
        if len(found) == len(addresses) or end - time.monotonic() < 1:
            return sorted(found)
        time.sleep(0.1)

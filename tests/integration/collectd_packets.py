"""Values in collectd's network protocol, as any host can send them: unsigned."""

import socket
import struct
import time

# Types of parts, by collectd's manual of its binary protocol.
HOST, PLUGIN, PLUGIN_INSTANCE, TYPE, TYPE_INSTANCE, VALUES, TIME, INTERVAL = 0, 2, 3, 4, 5, 6, 8, 9
GAUGE = 1


def _text(part, text):
    data = text.encode() + b"\0"
    return struct.pack(">HH", part, 4 + len(data)) + data


def _seconds(part, seconds):
    return struct.pack(">HHq", part, 12, int(seconds * 2**30))


def _gauge(value):
    return struct.pack(">HHHB", VALUES, 15, 1, GAUGE) + struct.pack("<d", value)


def packet(host, value, type_="percent", type_instance="expired", instance="site"):
    """One value of our plugin, `expired_percent` if nothing else is said."""
    return b"".join([
        _text(HOST, host), _seconds(TIME, time.time()), _seconds(INTERVAL, 10),
        _text(PLUGIN, "django_session"), _text(PLUGIN_INSTANCE, instance),
        _text(TYPE, type_), _text(TYPE_INSTANCE, type_instance), _gauge(value)])


def send(port, *packets):
    """At a pace that the receiver's buffer can take."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, data in enumerate(packets):
            sender.sendto(data, ("127.0.0.1", port))
            if number % 100 == 99:
                time.sleep(0.01)

"""Looks at what really leaves through an interface."""

import socket
import struct
import threading

ETH_P_ALL = 3
ETHERNET_BYTES = 14
ROCE_PORT = 4791
UDP = 17
PACKET_OUTGOING = 4


class Watch:
    """While it is entered: counts RoCE packets from an IPv4 address and follows their
    identifications. `longest` is the longest run of packets in a row whose identifications go up
    by one, which is what the segments of a train have."""

    def __init__(self, interface, source):
        self.source = socket.inet_aton(source)
        self.packets = 0
        self.longest = 0
        self.run = 0
        self.last = None
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.settimeout(0.2)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.socket.close()

    def work(self):
        while not self.ended.is_set():
            try:
                frame, where = self.socket.recvfrom(128)
            except TimeoutError:
                continue
            if where[2] == PACKET_OUTGOING:
                self.look_at(frame[ETHERNET_BYTES:])

    def look_at(self, packet):
        if len(packet) < 28 or packet[0] != 0x45 or packet[9] != UDP or \
                packet[12:16] != self.source or \
                struct.unpack_from(">H", packet, 22)[0] != ROCE_PORT:
            return
        identification, = struct.unpack_from(">H", packet, 4)
        self.packets += 1
        self.run = self.run + 1 if self.last is not None and identification == self.last + 1 else 1
        self.last = identification
        self.longest = max(self.longest, self.run)

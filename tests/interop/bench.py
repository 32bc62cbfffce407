"""Both machines, and how the two ends of a program are started on them."""

import re

from guest import GUEST, HOST, GuestProgram
from harness import Failure, Program, free_port, wait_until

TO_LINUX = "to linux"      # the client is ours, the kernel answers
FROM_LINUX = "from linux"  # the kernel asks, ours answers
LIMIT_SECONDS = 150


class Bench:
    """An engine on this side of the tap, a guest on the other."""

    def __init__(self, host, guest, folder):
        self.host = host
        self.guest = guest
        self.folder = folder

    def on_host(self, words):
        return Program(self.host, words, self.folder)

    def wait_cm_listening(self, server, before):
        if isinstance(server, GuestProgram):
            server.wait_cm_listening()
        else:
            wait_until(lambda: self.listeners() > before, 20, "the server listens")

    def listeners(self):
        return self.host.status()["rdma_cm"]["listeners"]

    def pair(self, direction, words_on, seconds=LIMIT_SECONDS, through_cm=False):
        """Runs a server and a client; `words_on(device, gid, role, address, port)` gives their
        command lines. Returns the outputs (server's, client's). `through_cm`: the server listens
        with rdma_cm instead of TCP."""
        port = free_port()
        to_linux = direction == TO_LINUX
        ours = ("flexins0", 0, HOST)
        theirs = ("rxe0", 1, GUEST)
        server_place, client_place = (theirs, ours) if to_linux else (ours, theirs)
        server_words = words_on(*server_place[:2], "server", server_place[2], port)
        client_words = words_on(*client_place[:2], "client", server_place[2], port)
        start = [lambda w: GuestProgram(self.guest, w, seconds), self.on_host]
        before = self.listeners()
        server = start[0 if to_linux else 1](server_words)
        client = None
        try:
            if through_cm:
                self.wait_cm_listening(server, before)
            else:
                server.wait_listening(port)
            client = start[1 if to_linux else 0](client_words)
            status = client.wait(seconds)
            served = server.wait(10)
            if status != 0 or served != 0:
                raise Failure("\n".join([client.describe(), server.describe(),
                                         self.host.report(), self.kernel_log()]))
            return server.output, client.output
        finally:
            for program in filter(None, (client, server)):
                program.kill()

    def kernel_log(self):
        return "--- kernel log of the guest\n" + self.guest.run("dmesg | tail -n 15")[1]

    def guest_counters(self):
        text = self.guest.check("cd /sys/class/infiniband/rxe0/ports/1/hw_counters; grep . *")
        return {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", text)}

    def set_faults(self, percent):
        """On all that leaves either side."""
        if percent == 0:
            self.host.flexins("faults", "--engine", self.host.name, "off")
            self.guest.run("/usr/bin/tc qdisc del dev eth0 root")
            return
        self.host.flexins("faults", "--engine", self.host.name, "set", f"loss={percent}%",
                          "reorder=1%", "duplicate=1%")
        self.guest.check(f"/usr/bin/tc qdisc add dev eth0 root netem loss {percent}% limit 10000")

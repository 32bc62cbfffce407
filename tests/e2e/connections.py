"""Programs of rdmacm-utils beyond rdmacm.py, sockets programs over rsockets, and what hundreds of
connections leave in an engine."""

import os
import pathlib
import unittest

from harness import free_port
from rdmacm import CmCase, Ends

RSOCKETS = next(pathlib.Path("/usr/lib").glob("*/rsocket/librspreload.so"), None)
# What an allocator may keep of 200 connections; if each left a page it would be more.
GROWTH_MAX_KIB = 512


def own_memory_kib(host):
    """Anonymous memory of the engine, as the kernel shares it out."""
    lines = pathlib.Path(f"/proc/{host.pid()}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))


class Connections(CmCase):
    """rdmacm-utils, and librspreload."""

    def between(self, program, *more, server=(), client=(), with_server=True):
        """The program's two ends; gives their outputs back."""
        address = self.topology.server.address
        words = [program, *more]
        return self.run_ends([*words, "-b", address, *server], [*words, "-s", address, *client],
                             with_server=with_server)

    def test_one_server_for_a_hundred(self):
        address, port = self.topology.server.address, free_port()
        words = ["-a", address, "-p", port, "-V", "-C", 2]
        ends = Ends(self.topology, ["rping", "-s", "-P", *words])
        try:
            for _ in range(100 if self.soak or self.topology.name == "two" else 20):
                ends.clients.clear()
                ends.client(["rping", "-c", *words])
                ends.finish(self.limit(20), with_server=False)
        finally:
            ends.kill()
        self.idle()

    def test_a_hundred_at_once(self):
        for text in self.between("ucmatose", "-p", free_port(), "-c", 100, "-C", 2):
            self.assertIn("return status 0", text)
        self.idle()

    def test_datagrams_of_ten(self):
        for text in self.between("udaddy", "-c", 10):
            self.assertIn("return status 0", text)
        self.idle()

    def test_multicast(self):
        words = ["stdbuf", "-oL", "mckey", "-m", "239.77.0.2", "-C", 10]
        ends = Ends(self.topology, [*words, "-b", self.topology.server.address], listens=False)
        try:
            ends.wait_for_output("joined dgid")
            ends.client([*words, "-s", "-b", self.topology.client.address])
            for text in ends.finish(self.limit(20)):
                self.assertIn("data transfers complete", text)
                self.assertIn("return status 0", text)
        finally:
            ends.kill()
        self.idle()

    def test_remote_memory_of_rsockets(self):
        self.between("riostream", "-p", free_port(), "-S", 16384, "-C", self.dose(20), "-I", 5,
                     "-T", "v")

    def test_copy(self):
        folder = self.topology.server.runtime
        data = os.urandom(300_000)
        source, target = folder / "source", folder / "target"
        source.write_bytes(data)
        source.chmod(0o644)
        port = free_port()
        ends = Ends(self.topology, ["rcopy", "-p", port])
        try:
            # Both are one user's, who may read what the other host's folder has.
            ends.client(["rcopy", source, f"{self.topology.server.address}:{target}", "-p", port])
            ends.finish(self.limit(20), with_server=False)
            self.assertEqual(target.read_bytes(), data)
        finally:
            ends.kill()

    def test_times_of_connecting(self):
        texts = self.between("cmtime", "-p", free_port(), "-c", 20, with_server=False)
        self.assertRegex(texts[1], r"(?m)^connect +: +\d")

    @unittest.skipUnless(RSOCKETS, "no librspreload.so here")
    def test_sockets_program(self):
        """An ordinary sockets program over rsockets, by rdma-core's preload library behind ours."""
        words = ["sh", "-c", 'LD_PRELOAD="$LD_PRELOAD:$0" exec "$@"', RSOCKETS,
                 self.topology.install.program("tcp_pingpong"), "-n", self.dose(300), "-s", 1000,
                 "-p", free_port()]
        before = self.topology.server.count("work_requests")
        texts = self.run_ends(words, [*words, self.topology.server.address])
        self.assertIn("rounds of 1000 bytes", texts[1])
        self.assertGreater(self.topology.server.count("work_requests") - before, self.dose(300))

    def connect(self, count):
        for _ in range(count // 50):
            self.between("ucmatose", "-p", free_port(), "-c", 50, "-C", 1)
        self.idle()

    def test_memory_after_many(self):
        hosts = self.topology.hosts
        self.connect(100)
        before = [own_memory_kib(host) for host in hosts]
        self.connect(1000 if self.soak else 200)
        after = [own_memory_kib(host) for host in hosts]
        print(f"own memory of the engines in KiB: {before}, later {after}")
        for host, was, now in zip(hosts, before, after):
            self.assertEqual(host.objects(), (0, 0, 0))
            self.assertLess(now - was, GROWTH_MAX_KIB)


GROUPS = {"connections": Connections}

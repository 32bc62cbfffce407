"""Unreliable datagrams: Debian's programs over UD."""

import subprocess

from harness import DEVICE, Program, require, wait_until
from programs import Perftest


class Datagrams(Perftest):
    """ibv_ud_pingpong, and perftest's send programs over UD."""

    def test_pingpong(self):
        for more in ((), ("-e",), ("-c",)):
            with self.subTest(options=more):
                words = ["ibv_ud_pingpong", "-d", DEVICE, "-g", 0, "-s", 1000, "-n", 200, *more]
                for text in self.run_pair(words):
                    self.assertRegex(text, r"200 iters in")

    def test_multicast(self):
        # Linux has no IPv6 multicast on the loopback interface.
        groups = {"ipv6": {0: "ff0e::77:1", 1: "239.77.0.1"},
                  "ipv6user": {1: "239.77.0.1"}}.get(self.topology.name, {0: "239.77.0.1"})
        for gid, group in groups.items():
            words = ["multicast", "--device", DEVICE, "--gid", gid, "--group", group]
            for text in self.run_pair(words, port_flag="--port"):
                self.assertIn("reached every other member once", text)

    def test_latency(self):
        for more in ((), ("-e",), ("--use_old_post_send",)):
            with self.subTest(options=more):
                self.perftest("ib_send_lat", 100, "-c", "UD", *more)

    def test_bandwidth(self):
        # A multiple of 100: perftest counts completions by the hundred, and with several QPs it
        # stops to poll too early otherwise.
        for more in ((), ("-e",), ("-b",), ("-q", 4), ("--use_old_post_send",)):
            with self.subTest(options=more):
                self.perftest("ib_send_bw", 200, "-c", "UD", *more)


class Addresses(Perftest):
    """An engine with two addresses: each GID works, RC and UD."""

    def test_both_gids(self):
        for gid in (0, 1):
            for transport in ("RC", "UD"):
                with self.subTest(gid=gid, transport=transport):
                    self.perftest("ib_send_bw", 100, "-x", gid, "-c", transport)
                    self.perftest("ib_send_lat", 50, "-x", gid, "-c", transport)
            with self.subTest(gid=gid, program="ib_write_bw"):
                self.perftest("ib_write_bw", 100, "-x", gid)

    def test_gid_table(self):
        text = self.run_alone("ibv_devinfo", "-v", "-d", DEVICE)
        six, four = self.topology.server.addresses
        self.assertRegex(text, rf"GID\[\s*0\]:\s*{six.replace('::', ':.*:')}, RoCE v2")
        self.assertRegex(text, rf"GID\[\s*1\]:\s*::ffff:{four}, RoCE v2")


class RawEthernet(Perftest):
    """perftest's raw_ethernet_bw and _lat: frames without any network, as root."""

    def macs(self):
        """The MAC addresses of both interfaces."""
        return [subprocess.run([*host.prefix, "cat", "/sys/class/net/eth0/address"],
                               capture_output=True, text=True, check=True).stdout.strip()
                for host in (self.topology.server, self.topology.client)]

    def raw(self, program, *more):
        server_mac, client_mac = self.macs()
        words = [program, "-d", DEVICE, "-F", "-n", 200, "-s", 1000, *more]
        server = Program(self.topology.server, [*words, "--server", "-B", server_mac,
                                                "-E", client_mac], self.topology.folder)
        client = None
        try:
            wait_until(lambda: self.topology.server.objects()[1] > 0, 10, "the server listens")
            client = Program(self.topology.client, [*words, "--client", "-B", client_mac,
                                                    "-E", server_mac], self.topology.folder)
            statuses = client.wait(20), server.wait(20)
            require(statuses == (0, 0), client.describe() + server.describe() +
                    self.topology.server.report() + self.topology.client.report())
        finally:
            server.kill()
            if client:
                client.kill()

    def test_bandwidth(self):
        self.raw("raw_ethernet_bw")

    def test_latency(self):
        self.raw("raw_ethernet_lat")

    def test_rate_of_flow_rules(self):
        mac = self.macs()[0]
        text = self.run_alone("raw_ethernet_fs_rate", "-d", DEVICE, "-F", "--server", "-n", 50,
                              "-B", mac, "-E", mac)
        self.assertRegex(text, r"(?m)^50\s+[\d.]+")


GROUPS = {"raw": RawEthernet, "datagrams": Datagrams, "addresses": Addresses}

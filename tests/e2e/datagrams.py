"""Unreliable datagrams: Debian's programs over UD."""

from harness import DEVICE
from programs import Perftest


class Datagrams(Perftest):
    """ibv_ud_pingpong, and perftest's send programs over UD."""

    def test_pingpong(self):
        for more in ((), ("-e",), ("-c",)):
            with self.subTest(options=more):
                words = ["ibv_ud_pingpong", "-d", DEVICE, "-g", 0, "-s", 1000, "-n", 200, *more]
                for text in self.run_pair(words):
                    self.assertRegex(text, r"200 iters in")

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


GROUPS = {"datagrams": Datagrams, "addresses": Addresses}

"""UCX: what its tools see of the device, and its performance test over both verbs transports."""

import re

from harness import DEVICE
from programs import Case, needs

PORT = f"{DEVICE}:1"
# What ucx_perftest measures, with options where the default is not what is wanted.
UCT_TESTS = (("am_lat",), ("am_bw", "-s", 4000, "-D", "bcopy"), ("put_lat",),
             ("put_bw", "-s", 100000, "-D", "zcopy"), ("get", "-s", 65536, "-D", "zcopy"),
             ("add_lat",), ("fadd",), ("cswap",))
UCP_TESTS = (("tag_lat",), ("tag_bw", "-s", 100000), ("stream_bw", "-s", 3000),
             ("ucp_put_bw", "-s", 8192), ("ucp_get", "-s", 8192), ("ucp_am_bw", "-s", 40000),
             ("ucp_fadd",), ("ucp_cswap",))


@needs("ucx_info", "ucx_perftest")
class Ucx(Case):
    """ucx_info and ucx_perftest."""

    def perftest(self, kind, *more, transports=None):
        words = ["ucx_perftest", "-t", kind, "-n", self.dose(100), "-w", 10, *more]
        env = {"UCX_NET_DEVICES": PORT, "UCX_WARN_UNUSED_ENV_VARS": "n"}
        if transports:
            env["UCX_TLS"] = transports
        server, client = self.run_pair(words, 20, env=env)
        self.assertRegex(client, rf"Final:\s+{self.dose(100)}\s")
        self.assertNotRegex(server + client, r"UCX\s+(WARN|ERROR|FATAL)")

    def each(self, tests, *more, transports=None):
        for test in tests:
            with self.subTest(test=test[0]):
                self.perftest(*test, *more, transports=transports)

    def test_device_is_listed(self):
        text = self.run_alone("ucx_info", "-d")
        found = set(re.findall(rf"Transport: (\S+)\n#\s+Device: {PORT}", text))
        self.assertEqual(found, {"rc_verbs", "ud_verbs"}, text)

    def test_uct_reliable(self):
        self.each(UCT_TESTS, "-d", PORT, "-x", "rc_verbs")

    def test_uct_datagrams(self):
        # Puts and atomics are not what datagrams offer.
        self.each(UCT_TESTS[:2], "-d", PORT, "-x", "ud_verbs")

    def test_ucp_reliable(self):
        # Datagrams carry the first messages, by which the ends agree on connections.
        self.each(UCP_TESTS, transports="rc_v,ud_v,self")

    def test_ucp_datagrams(self):
        # It emulates puts, gets and atomics by messages.
        self.each(UCP_TESTS[:4], transports="ud_v,self")


GROUPS = {"ucx": Ucx}

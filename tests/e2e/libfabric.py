"""libfabric's verbs provider. It leaves loopback interfaces alone, whatever card there is, so this
is for network namespaces."""

from harness import DEVICE, Program, free_port
from programs import Case, needs


@needs("fi_info", "fi_pingpong")
class Libfabric(Case):
    """fi_info and fi_pingpong."""

    def test_endpoints_are_listed(self):
        text = self.run_alone("fi_info", "-p", "verbs")
        for wanted in (f"domain: {DEVICE}\n", "type: FI_EP_MSG", "type: FI_EP_DGRAM"):
            self.assertIn(wanted, text)
        self.assertIn("FI_PROTO_RXM", self.run_alone("fi_info", "-p", "verbs;ofi_rxm"))

    def pingpong(self, endpoint, provider="verbs", *more):
        """Its integrity check fails the program."""
        port = free_port()
        words = ["fi_pingpong", "-p", provider, "-e", endpoint, "-c", "-I", self.dose(30), *more]
        server = Program(self.topology.server, [*words, "-B", port], self.topology.folder)
        client = None
        try:
            server.wait_listening(port)
            client = Program(self.topology.client, [*words, "-P", port,
                                                    self.topology.server.address],
                             self.topology.folder)
            statuses = client.wait(self.limit(30)), server.wait(self.limit(10))
            self.assertEqual(statuses, (0, 0), server.describe() + client.describe() +
                             self.topology.server.report() + self.topology.client.report())
            self.assertIn("usec/xfer", client.output)
        finally:
            server.kill()
            if client:
                client.kill()

    def test_messages(self):
        self.pingpong("msg")

    def test_reliable_datagrams_over_connections(self):
        for kind in ("msg", "tagged"):
            with self.subTest(kind=kind):
                self.pingpong("rdm", "verbs;ofi_rxm", "-m", kind)

    def test_reliable_datagrams_over_datagrams(self):
        self.pingpong("rdm", "verbs;ofi_rxd")

    def test_datagrams(self):
        self.pingpong("dgram")


GROUPS = {"libfabric": Libfabric}

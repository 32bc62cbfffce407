"""Two engines of one machine, which exchange packets through shared memory."""

import os
import signal

from harness import DEVICE, Pair, wait_until
from programs import Case


class Neighbours(Case):
    def ways(self):
        return [host.status()["engine"]["neighbours"] for host in self.topology.hosts]

    def sent(self, what):
        return sum(host.count(what) for host in self.topology.hosts)

    def integrity(self, operations=500):
        words = ["integrity", "--device", DEVICE, "--operations", operations]
        for text in self.run_pair(words, 60, port_flag="--port"):
            self.assertIn("every byte is right", text)

    def test_data_goes_through_memory(self):
        self.integrity(50)  # the first connection finds the neighbour while it runs
        wait_until(lambda: self.ways() == [1, 1], 10, "both know each other")
        memory, network = self.sent("shm_payload_bytes_sent"), self.sent("tx_packets")
        self.run_pair(["ib_write_bw", "-d", DEVICE, "-x", 0, "-F", "-s", 65536, "-n", 1000])
        self.assertGreaterEqual(self.sent("shm_payload_bytes_sent") - memory, 65536 * 1000)
        self.assertLess(self.sent("tx_packets") - network, 100)
        self.integrity()

    def test_a_killed_neighbour_is_missed_and_found_again(self):
        self.integrity(50)
        wait_until(lambda: self.ways() == [1, 1], 10, "both know each other")
        pair = Pair(self.topology, ["ib_write_bw", "-d", DEVICE, "-x", 0, "-F", "-s", 65536, "-D",
                                    60])
        client, server = self.topology.client, self.topology.server
        try:
            before = client.count("shm_packets_sent")
            pair.wait_until(lambda: client.count("shm_packets_sent") > before + 1000, 15,
                            "traffic flows")
            os.kill(server.pid(), signal.SIGKILL)
            self.assertGreater(pair.client.wait(20) or 0, 0, pair.describe("no error"))
        finally:
            pair.kill()
            server.up()
        wait_until(lambda: client.status()["engine"]["neighbours"] == 0, 5, "it is missed")
        self.integrity(50)
        wait_until(lambda: self.ways() == [1, 1], 10, "it is found again")
        self.integrity()

    def test_it_can_be_turned_off(self):
        server = self.topology.server
        server.down()
        options, server.options = server.options, ["--no-neighbours"]
        try:
            server.up()
            self.integrity(50)
            self.assertEqual(self.ways(), [0, 0])
        finally:
            server.down()
            server.options = options
            server.up()


GROUPS = {"neighbours": Neighbours}

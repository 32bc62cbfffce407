"""What perftest can do beyond the plain runs of programs.py: many QPs, old posting, rdma_cm with
each program, unreliable connections, multicast."""

from harness import DEVICE, free_port
from programs import Perftest
from rdmacm import Ends

BANDWIDTH = ("ib_write_bw", "ib_read_bw", "ib_send_bw", "ib_atomic_bw")
LATENCY = ("ib_write_lat", "ib_read_lat", "ib_send_lat", "ib_atomic_lat")
# ::ffff:239.77.0.1, in the notation of perftest.
GROUP = "0:0:0:0:0:0:0:0:0:0:255:255:239:77:0:1"


class Breadth(Perftest):
    """Between two engines."""

    def each(self, programs, rounds, *more):
        for program in programs:
            with self.subTest(program=program, options=more):
                self.perftest(program, rounds, *more)

    def test_many_queue_pairs(self):
        self.each(BANDWIDTH, 20, "-q", 64)

    def test_many_queue_pairs_both_ways(self):
        self.each(BANDWIDTH if self.soak else ("ib_write_bw", "ib_send_bw"), 20, "-q", 16, "-b")

    def test_old_posting(self):
        self.each(BANDWIDTH + LATENCY[:4 if self.soak else 1], 100, "--use_old_post_send")

    def test_lists_of_requests(self):
        self.each(BANDWIDTH[:1], 128, "-l", 8)

    def test_inline(self):
        self.each(("ib_write_bw", "ib_send_bw"), 100, "-I", 512, "-s", 512)

    def test_unreliable_connections(self):
        # Few of a size that a socket of default size holds: nobody sends a lost one again.
        self.each(("ib_write_lat", "ib_send_lat"), 100, "-c", "UC")
        self.each(("ib_write_bw",), 50, "-c", "UC", "-b", "-s", 1024)

    def test_shared_receive_queue(self):
        self.each(("ib_send_bw",), 100, "--use-srq", "-q", 16)
        self.each(("ib_send_bw",), 100, "--use-srq", "-e", "-q", 4)

    def test_multicast(self):
        self.each(("ib_send_bw",), 100, "-c", "UD", "-g", "-M", GROUP, "-s", 1000)

    def connected(self, program, *more):
        port = free_port()
        words = [program, "-d", DEVICE, "-R", "-F", "-n", self.dose(100), "-p", port, *more]
        ends = Ends(self.topology, words)
        try:
            ends.client([*words, self.topology.server.address])
            self.assertRegex(ends.finish(self.limit(20))[1], r"(?m)^\s*\d+\s+\d+\s")
        finally:
            ends.kill()

    def test_connected_by_rdma_cm(self):
        for program in BANDWIDTH + LATENCY:
            with self.subTest(program=program):
                self.connected(program)
        for program in ("ib_send_bw", "ib_send_lat"):
            with self.subTest(program=program, transport="UD"):
                self.connected(program, "-c", "UD")


GROUPS = {"breadth": Breadth}

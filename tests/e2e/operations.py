"""Operations beyond SEND, WRITE and READ, by Debian's programs."""

from harness import DEVICE
from programs import Integrity, Perftest


class Atomics(Perftest):
    """ib_atomic_bw, ib_atomic_lat."""

    def test_bandwidth(self):
        for kind in ("CMP_AND_SWAP", "FETCH_AND_ADD"):
            for way in ((), ("--use_old_post_send",)):
                with self.subTest(kind=kind, way=way):
                    self.perftest("ib_atomic_bw", 300, "-A", kind, *way)

    def test_latency(self):
        for kind in ("CMP_AND_SWAP", "FETCH_AND_ADD"):
            with self.subTest(kind=kind):
                self.perftest("ib_atomic_lat", 200, "-A", kind, seconds=120)

    def test_many_qps_both_ways(self):
        self.perftest("ib_atomic_bw", 200, "-q", 8, "-b")


class SharedReceives(Perftest):
    """Shared receive queues."""

    def test_pingpong(self):
        for more in ((), ("-e",), ("-q", 4, "-s", 70000)):
            with self.subTest(more=more):
                rounds = self.dose(400)
                words = ["ibv_srq_pingpong", "-d", DEVICE, "-g", 0, "-n", rounds, *more]
                for text in self.run_pair(words):
                    self.assertRegex(text, rf"{rounds} iters in")

    def test_perftest(self):
        self.perftest("ib_send_bw", 300, "--use-srq", "-q", 4)
        self.perftest("ib_send_lat", 100, "--use-srq", seconds=120)

    def test_integrity(self):
        Integrity.integrity(self, "--seed", 5, "--srq")


class Unreliable(Perftest):
    """Unreliable connections, where nothing is lost: nobody sends again what a full socket or a
    receive that is posted too late costs."""

    def test_pingpong(self):
        for more in ((), ("-e",), ("-s", 70000)):
            with self.subTest(more=more):
                rounds = self.dose(400)
                words = ["ibv_uc_pingpong", "-d", DEVICE, "-g", 0, "-n", rounds, *more]
                for text in self.run_pair(words):
                    self.assertRegex(text, rf"{rounds} iters in")

    def test_perftest(self):
        if self.topology.is_one_engine:
            self.skipTest("perftest's sender outruns the receives of its peer here")
        for program in ("ib_write_bw", "ib_send_bw", "ib_write_lat", "ib_send_lat"):
            with self.subTest(program=program):
                self.perftest(program, 300, "-c", "UC", "-s", 8192, seconds=60)

    def test_integrity(self):
        if not self.topology.is_one_engine:
            self.skipTest("messages of megabytes overrun a UDP socket of default size")
        Integrity.integrity(self, "--seed", 6, "--transport", "uc")


GROUPS = {"atomics": Atomics, "shared": SharedReceives, "unreliable": Unreliable}

"""Programs that connect through librdmacm."""

import os
import re
import signal
import time

from harness import DEVICE, Failure, Program, free_port, wait_until
from programs import Case


# A client of rping's closes its event channel at the end, where its other thread may just be about
# to read from it, and then exits with this, on any device. All data has been compared by then.
RPING_RACE = "rdma_get_cm_event: Bad file descriptor"


def ended_badly(program, status):
    lost_race = status == 255 and program.output.rstrip().endswith(RPING_RACE)
    return bool(status) and not lost_race


class Ends:
    """A server that listens through rdma_cm, and clients of it."""

    def __init__(self, topology, words, listens=True):
        self.topology = topology
        self.before = self.listeners()
        self.server = Program(topology.server, words, topology.folder)
        self.clients = []
        if listens:
            self.wait_for(self.is_up, "the server listens")

    def wait_for(self, condition, what):
        try:
            wait_until(condition, 20, what)
        except BaseException as failure:
            self.kill()
            raise Failure(self.describe(str(failure))) from None

    def wait_for_output(self, text):
        self.wait_for(lambda: text in self.server.output, f"the server says {text!r}")

    def listeners(self):
        return self.topology.server.status()["rdma_cm"]["listeners"]

    def is_up(self):
        return self.listeners() > self.before or self.server.process.poll() is not None

    def client(self, words):
        program = Program(self.topology.client, words, self.topology.folder)
        self.clients.append(program)
        return program

    def finish(self, seconds, with_server=True):
        """All must end well in time; gives their outputs back, the server's first."""
        deadline = time.monotonic() + seconds
        programs = [*self.clients, *([self.server] if with_server else [])]
        statuses = [one.wait(deadline - time.monotonic()) for one in programs]
        if any(ended_badly(*end) for end in zip(programs, statuses)):
            raise Failure(self.describe(f"statuses {statuses}, limit {seconds} s"))
        if None in statuses:
            raise Failure(self.describe(f"did not end within {seconds} s"))
        return [self.server.output, *(one.output for one in self.clients)]

    def describe(self, why):
        hosts = {host.name: host for host in self.topology.hosts}
        return "\n".join([why, self.server.describe(), *(one.describe() for one in self.clients),
                          *(host.report() for host in hosts.values())])

    def kill(self):
        for one in [*self.clients, self.server]:
            one.kill()


class CmCase(Case):
    """What tests of programs that connect through librdmacm have in common."""

    def run_ends(self, server, client, seconds=30, clients=1, with_server=True):
        ends = Ends(self.topology, server)
        try:
            for _ in range(clients):
                ends.client(client)
            return ends.finish(self.limit(seconds), with_server)
        finally:
            ends.kill()

    def idle(self):
        """No id and no listener is left; connections only wait for stray packets."""
        for host in self.topology.hosts:
            wait_until(lambda host=host: not any(host.status()["rdma_cm"].values()),
                       self.limit(20), f"engine {host.name} has forgotten all connections")


class RdmaCm(CmCase):
    """rdmacm-utils, and perftest with -R."""

    def rping(self, *more, rounds=20, seconds=30):
        address, port = self.topology.server.address, free_port()
        words = ["-a", address, "-p", port, "-C", self.dose(rounds), "-V", *more]
        return self.run_ends(["rping", "-s", *words], ["rping", "-c", *words], seconds)

    def test_rping_with_data_check(self):
        self.rping()

    def test_rping_of_large_messages(self):
        self.rping("-S", 60000)

    def test_rping_server_for_many(self):
        address, port = self.topology.server.address, free_port()
        words = ["-a", address, "-p", port, "-V"]
        ends = Ends(self.topology, ["rping", "-s", "-P", *words])
        try:
            # One after the other: rping's server has room for one request that it has not served.
            for _ in range(self.dose(5)):
                ends.client(["rping", "-c", *words, "-C", 10])
                ends.finish(self.limit(20), with_server=False)
        finally:
            ends.kill()
        self.idle()

    def test_nobody_listens(self):
        program = Program(self.topology.client, ["rping", "-c", "-a", self.topology.server.address,
                                                 "-p", free_port(), "-C", 1],
                          self.topology.folder)
        status = program.wait(self.limit(20))
        self.assertNotIn(status, (None, 0), program.describe())
        self.assertRegex(program.output, r"(?i)reject|error 8|event 8")

    def test_ucmatose(self):
        address, port = self.topology.server.address, free_port()
        words = ["-p", port, "-c", 2000 if self.soak else 20, "-C", 5]
        for text in self.run_ends(["ucmatose", "-b", address, *words],
                                  ["ucmatose", "-s", address, *words], 60):
            self.assertIn("return status 0", text)
        self.idle()

    def test_many_connections_leave_nothing(self):
        address, port = self.topology.server.address, free_port()
        rounds, at_once = (20, 50) if self.soak else (4, 25)
        for _ in range(rounds):
            words = ["-p", port, "-c", at_once, "-C", 1]
            self.run_ends(["ucmatose", "-b", address, *words],
                          ["ucmatose", "-s", address, *words], 60)
        self.idle()

    def test_udaddy(self):
        address = self.topology.server.address
        words = ["-c", 3, "-C", self.dose(10)]
        if self.topology.has_faults:
            self.skipTest("it waits for every datagram for ever")
        for text in self.run_ends(["udaddy", "-b", address, *words],
                                  ["udaddy", "-s", address, *words]):
            self.assertIn("return status 0", text)
        self.idle()

    def test_engine_of_a_listener_killed(self):
        host = self.topology.server
        ends = Ends(self.topology, ["rping", "-s", "-a", host.address, "-p", free_port(), "-V"])
        try:
            os.kill(host.pid(), signal.SIGKILL)
            self.assertIsNotNone(ends.server.wait(self.limit(10)), "it waits for ever")
            self.assertIn("device removal", ends.server.output)
        finally:
            ends.kill()
            host.up()

    def test_client_and_server(self):
        address, port = self.topology.server.address, free_port()
        for text in self.run_ends(["rdma_server", "-p", port],
                                  ["rdma_client", "-s", address, "-p", port]):
            self.assertRegex(text, r"end 0|: end 0")

    def test_rsockets(self):
        address, port = self.topology.server.address, free_port()
        words = ["-p", port, "-S", 16384, "-C", self.dose(50), "-I", self.dose(5), "-T", "v"]
        self.run_ends(["rstream", "-b", address, *words], ["rstream", "-s", address, *words], 60)

    def test_perftest(self):
        address, port = self.topology.server.address, free_port()
        for program in ("ib_send_bw", "ib_write_bw", "ib_read_lat"):
            with self.subTest(program=program):
                words = [program, "-d", DEVICE, "-R", "-F", "-n", self.dose(100), "-p", port]
                texts = self.run_ends(words, [*words, address], 60)
                self.assertTrue(re.search(r"^\s*\d+\s+\d+\s", texts[1], re.MULTILINE), texts[1])


GROUPS = {"rdmacm": RdmaCm}

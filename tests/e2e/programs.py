"""Debian's programs and our examples, unmodified, over every topology."""

import re
import shutil
import time
import unittest

from harness import DEVICE, Failure, Pair, Program, require, wait_until

VERBS = ("write", "read", "send")
# Topologies where an ordinary run walks all sizes with one verb only.
WALKED = {"two": "write", "namespaces9000": "send", "namespaces1500": "read", "faults": "send",
          "noadopt": "write", "neighbours": "send"}
SIZES_OF_ALL = [2 ** power for power in range(1, 24)]  # what perftest's -a walks through


def needs(*names):
    """Skips what a machine without these programs cannot try."""
    absent = [name for name in names if shutil.which(name) is None]
    return unittest.skipIf(absent, f"not installed: {', '.join(absent)}")


class Case(unittest.TestCase):
    """One topology, set up once for the group. `topology` and `soak` are set by run.py."""

    topology = None
    soak = False

    def dose(self, quick):
        """How often to do what is done `quick` times in an ordinary run."""
        return quick * 50 if self.soak else max(quick // (4 if self.topology.has_faults else 1), 5)

    def limit(self, seconds):
        return seconds * (20 if self.soak else 1) * (4 if self.topology.has_faults else 1)

    def run_pair(self, words, seconds=30, **options):
        pair = Pair(self.topology, words, **options)
        try:
            return pair.finish(self.limit(seconds))
        finally:
            pair.kill()

    def run_alone(self, *words, seconds=20):
        program = Program(self.topology.server, words, self.topology.folder)
        status = program.wait(seconds)
        if status != 0:
            raise Failure(program.describe() + self.topology.server.report())
        return program.output

    def tearDown(self):
        # Whatever ran: nothing of it may be left in an engine.
        for host in self.topology.hosts:
            wait_until(lambda host=host: sum(host.objects()) == 0, 5,
                       f"engine {host.name} is free of objects, it has {host.objects()}")


class Devices(Case):
    """What the programs see of the device."""

    def test_ibv_devices(self):
        self.assertIn(DEVICE, self.run_alone("ibv_devices"))

    def test_child_of_a_shell(self):
        self.assertIn(DEVICE, self.run_alone("sh", "-c", "true; ibv_devices; true"))

    def test_ibv_devinfo(self):
        text = self.run_alone("ibv_devinfo", "-v", "-d", DEVICE)
        mtu = 1024 if self.topology.name == "namespaces1500" else 4096
        gid = re.escape(f"::ffff:{self.topology.server.address}, RoCE v2")
        for wanted in (rf"hca_id:\s*{DEVICE}", r"state:\s*PORT_ACTIVE", r"link_layer:\s*Ethernet",
                       rf"active_mtu:\s*{mtu} ", r"phys_port_cnt:\s*1\b",
                       rf"GID\[\s*0\]:\s*{gid}"):
            self.assertRegex(text, wanted)

    def test_program_status_is_passed_on(self):
        program = Program(self.topology.server, ["sh", "-c", "exit 7"], self.topology.folder)
        self.assertEqual(program.wait(10), 7, program.describe())


class Pingpong(Case):
    """ibv_rc_pingpong."""

    def pingpong(self, size, rounds, *more):
        words = ["ibv_rc_pingpong", "-d", DEVICE, "-g", 0, "-s", size, "-n", self.dose(rounds)]
        for text in self.run_pair([*words, *more]):
            self.assertRegex(text, rf"{self.dose(rounds)} iters in")

    def test_polling(self):
        self.pingpong(4096, 1000)

    def test_events(self):
        self.pingpong(4096, 500, "-e")

    def test_sizes_with_data_check(self):
        for size in (1, 17, 1023, 4097, 65536, 1 << 20):
            with self.subTest(size=size):
                self.pingpong(size, 100, "-c")

    def test_events_with_data_check(self):
        self.pingpong(70000, 100, "-e", "-c")


class Perftest(Case):
    """What the bandwidth and latency programs have in common."""

    def perftest(self, program, rounds, *more, seconds=40):
        words = [program, "-d", DEVICE, "-x", 0, "-F", "-n", self.dose(rounds), *more]
        server, client = self.run_pair(words, seconds)
        rows = [line.split() for line in client.splitlines() if re.match(r"\s*\d+\s+\d+\s", line)]
        sizes = [int(row[0]) for row in rows]
        if "-a" in more:
            self.assertEqual(sizes, SIZES_OF_ALL, client)
        else:
            self.assertEqual(len(sizes), 1, client)
        # perftest reports some broken completions in words only.
        self.assertNotRegex(server + client, r"(?i)completion with error|failed status|couldn't")
        return rows


    def walk_sizes(self, kind, rounds, seconds=40):
        """Every verb over every size. Perftest calibrates a clock for a quarter of a second at each
        size, so an ordinary run walks them with one verb where another topology has the others."""
        for verb in VERBS:
            with self.subTest(verb=verb):
                if self.soak or WALKED.get(self.topology.name, verb) == verb:
                    self.perftest(f"ib_{verb}_{kind}", rounds, "-a", seconds=seconds)
                    continue
                for size in (1, 5000, 1 << 20):
                    self.perftest(f"ib_{verb}_{kind}", rounds, "-s", size, seconds=seconds)


class Bandwidth(Perftest):
    """ib_write_bw, ib_read_bw, ib_send_bw."""

    def each(self, rounds, *more):
        for verb in VERBS:
            with self.subTest(verb=verb):
                self.perftest(f"ib_{verb}_bw", rounds, *more)

    def test_all_sizes(self):
        self.walk_sizes("bw", 20)

    def test_events(self):
        for verb in ("read", "send"):  # ib_write_bw has no events
            with self.subTest(verb=verb):
                self.perftest(f"ib_{verb}_bw", 250, "-e")

    def test_sixteen_qps_without_socket_drops(self):
        hosts = self.topology.hosts
        before = [host.count("socket_drops") for host in hosts]
        self.each(200, "-q", 16)
        if not self.topology.has_faults:
            self.assertEqual([host.count("socket_drops") for host in hosts], before)

    def test_bidirectional(self):
        self.each(250, "-b")

    def test_packets_cross_the_network(self):
        host = self.topology.client
        before = host.count("tx_packets|shm_packets_sent")
        self.perftest("ib_write_bw", 100, "-s", 65536)
        sent = host.count("tx_packets|shm_packets_sent") - before
        if self.topology.is_one_engine:
            self.assertEqual(sent, 0)
        else:
            self.assertGreaterEqual(sent, self.dose(100) * 65536 // 4096)


class Latency(Perftest):
    """ib_write_lat, ib_read_lat, ib_send_lat."""

    def test_all_sizes(self):
        self.walk_sizes("lat", 5, seconds=120)

    def test_events(self):
        for verb in ("read", "send"):  # ib_write_lat has no events
            with self.subTest(verb=verb):
                self.perftest(f"ib_{verb}_lat", 100, "-e", seconds=120)


class Integrity(Case):
    """examples/integrity: every byte of random messages both ways."""

    def integrity(self, *more, env=None):
        operations = 60000 if self.soak else 400 if self.topology.has_faults else 2000
        words = ["integrity", "--device", DEVICE, "--gid", 0, "--operations", operations, *more]
        for text in self.run_pair(words, 60, port_flag="--port", env=env):
            self.assertIn("every byte is right", text)

    def test_polling(self):
        self.integrity("--seed", 1)

    def test_events(self):
        self.integrity("--seed", 2, "--events")

    def test_small_messages(self):
        self.integrity("--seed", 3, "--size-max", 3000)

    def test_fresh_seed(self):
        self.integrity("--seed", time.time_ns() % 10 ** 9)  # the output names it

    def test_descriptor_window_only(self):
        self.integrity("--seed", 4, env={"FLEXINS_WINDOW": "descriptor"})


class Placement(Case):
    """examples/placement_poller: the last byte of a WRITE never comes before the rest."""

    def poller(self, memory, window):
        rounds = 100_000 if self.soak else 1500 if self.topology.has_faults else 9000
        words = ["placement_poller", "--device", DEVICE, "--gid", 0, "--memory", memory,
                 "--rounds", rounds]
        for text in self.run_pair(words, 60, port_flag="--port", env={"FLEXINS_WINDOW": window}):
            self.assertIn("before the rest 0 times", text)

    def test_shared_object(self):
        self.poller("shared", "shared")

    def test_adopted(self):
        self.poller("anonymous", "adopted")

    def test_descriptor(self):
        self.poller("anonymous", "descriptor")


class Windows(Case):
    """`flexins status` says how each region is reached."""

    def window_of(self, memory, env):
        pair = Pair(self.topology, ["placement_poller", "--device", DEVICE, "--memory", memory,
                                    "--rounds", 10 ** 9], port_flag="--port", env=env)
        try:
            host = self.topology.server
            pair.wait_until(lambda: host.objects()[2] > 0, 10, "a region is registered")
            text = host.flexins("status", "--engine", host.name, "--json").stdout
        finally:
            pair.kill()
        found = set(re.findall(r'"(shared|adopted|descriptor)"', text))
        require(len(found) == 1, f"one kind of window expected:\n{text}")
        return found.pop()

    def test_shared(self):
        self.assertEqual(self.window_of("shared", {}), "shared")

    def test_descriptor_by_choice(self):
        self.assertEqual(self.window_of("anonymous", {"FLEXINS_WINDOW": "descriptor"}),
                         "descriptor")

    def test_adoption_off(self):
        self.assertEqual(self.window_of("anonymous", {"FLEXINS_ADOPT": "0"}), "descriptor")


GROUPS = {"devices": Devices, "pingpong": Pingpong, "bandwidth": Bandwidth, "latency": Latency,
          "integrity": Integrity, "placement": Placement, "windows": Windows}

"""What happens when things break: engines and programs killed, garbage, wrong names and users."""

import errno
import os
import pathlib
import random
import signal
import socket
import stat
import struct
import subprocess
import time

from harness import DEVICE, NOBODY, Failure, Pair, Program, is_engine, wait_until
from programs import Case

HELLO = struct.Struct("=HHIIIIIII64s")  # src/protocol/messages.h
HELLO_TYPE = 1
MAGIC = 0x534e4c46
END_SECONDS = 10  # generous: the promise is 2 s, on an idle machine


class Failures(Case):
    """On two engines of an ordinary user."""

    def load(self, seconds=60, program="ib_write_bw"):
        """A transfer that would run for long, already under way."""
        pair = Pair(self.topology, [program, "-d", DEVICE, "-x", 0, "-F", "-s", 65536, "-D",
                                    seconds])
        host = self.topology.client
        before = host.count("tx_packets")
        try:
            pair.wait_until(lambda: host.count("tx_packets") > before + 1000, 15, "traffic flows")
        except Failure:
            pair.kill()
            raise
        return pair

    def integrity(self, operations=500):
        words = ["integrity", "--device", DEVICE, "--operations", operations]
        for text in self.run_pair(words, 60, port_flag="--port"):
            self.assertIn("every byte is right", text)

    def ends_with_error(self, pair, program):
        status = program.wait(END_SECONDS)
        self.assertIsNotNone(status, pair.describe("it hangs"))
        self.assertNotEqual(status, 0, pair.describe("it says that all went well"))
        self.assertGreater(status, 0, pair.describe("it was ended by a signal"))

    def kill_engine_under(self, side):
        pair = self.load()
        host = getattr(self.topology, side)
        program = getattr(pair, side)
        try:
            os.kill(host.pid(), signal.SIGKILL)
            self.ends_with_error(pair, program)
        finally:
            pair.kill()
            host.up()
        self.integrity()

    def test_engine_of_the_client_killed(self):
        self.kill_engine_under("client")

    def test_engine_killed_under_a_program_that_reads_all_completions(self):
        pair = Pair(self.topology, ["integrity", "--device", DEVICE, "--seconds", 60],
                    port_flag="--port")
        host = self.topology.client
        try:
            pair.wait_until(lambda: host.objects()[1] > 0, 10, "a QP is there")
            time.sleep(0.5)
            os.kill(host.pid(), signal.SIGKILL)
            self.ends_with_error(pair, pair.client)
        finally:
            pair.kill()
            host.up()

    def test_engine_killed_under_a_program_that_waits_for_events(self):
        host = self.topology.client
        program = Program(host, ["stdbuf", "-oL", "ibv_asyncwatch", "-d", DEVICE],
                          self.topology.folder)
        try:
            wait_until(lambda: "async event FD" in program.output, 10, "the device is open")
            os.kill(host.pid(), signal.SIGKILL)
            self.assertIsNotNone(program.wait(END_SECONDS), "it waits on")
            self.assertEqual(program.output.count("DEVICE_FATAL"), 1, program.describe())
        finally:
            program.kill()
            host.up()

    def test_client_killed(self):
        pair = self.load()
        pair.client.kill()
        host = self.topology.client
        try:
            wait_until(lambda: sum(host.objects()) == 0, 5, "the dead client's objects are gone")
        finally:
            pair.kill()
        self.integrity()

    def test_server_killed(self):
        pair = self.load()
        pair.server.kill()
        try:
            self.ends_with_error(pair, pair.client)
            self.assertRegex(pair.client.output, r"(?i)status 12\b|retry counter exceeded",
                             pair.describe("the reason is another"))
        finally:
            pair.kill()

    def test_garbage_on_the_wire(self):
        pair = self.load(seconds=4)
        hosts = self.topology.hosts
        wrong = "icrc_wrong|rx_too_(short|long)|drop_[a-z_]+"
        before = [host.count(wrong) for host in hosts]
        dice = random.Random(1)
        sent = 500
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.9", 0))
            for _ in range(sent):
                for host in hosts:
                    garbage = dice.randbytes(dice.choice((0, 1, 4, 15, 16, 64, 300, 4200)))
                    sender.sendto(garbage, (host.address, 4791))
                time.sleep(0.001)
        try:
            pair.finish(40)
        finally:
            pair.kill()
        for host, count in zip(hosts, before):
            # The kernel may drop some of a burst; most must have been seen and counted.
            self.assertGreater(host.count(wrong) - count, sent // 2, host.report())
        self.integrity()

    def test_second_engine_of_the_same_name(self):
        host = self.topology.client
        first = host.pid()
        again = host.up(check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertRegex(again.stdout + again.stderr, rf"'?{host.name}'?.*(runs|running|in use)")
        self.assertEqual(host.pid(), first)

    def test_what_a_dead_engine_left_is_no_obstacle(self):
        host = self.topology.client
        pid = host.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_engine(pid), 5, "the engine is dead")
        self.assertTrue(any(stat.S_ISSOCK(file.stat().st_mode) for file in host.runtime.rglob("*")))
        host.up()
        self.integrity()

    def test_down_and_up(self):
        host = self.topology.client
        pid = host.pid()
        host.flexins("down", "--engine", host.name)
        wait_until(lambda: not is_engine(pid), 5, "the engine has ended")
        gone = host.flexins("status", "--engine", host.name, check=False)
        self.assertNotEqual(gone.returncode, 0)
        self.assertIn(host.name, gone.stdout + gone.stderr)
        host.up()

    def test_run_starts_an_engine(self):
        host = self.topology.client
        folder = pathlib.Path(self.topology.folder, "runtime-fresh")
        folder.mkdir(mode=0o700)
        if host.prefix:
            os.chown(folder, NOBODY, NOBODY)
        env = {"FLEXINS_RUNTIME_DIR": str(folder)}
        done = host.flexins("run", "--", "ibv_devices", env=env)
        self.assertIn(DEVICE, done.stdout)
        host.flexins("down", env=env)

    def test_versions(self):
        host = self.topology.client
        self.assertRegex(host.flexins("--version").stdout, r"\d+\.\d+")

    def hello(self, path, magic, version):
        """The status that the engine's reply to such a Hello has; None if it hangs up."""
        message = HELLO.pack(HELLO_TYPE, 0, HELLO.size, 1, 0, magic, version, 1, 0, b"test")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as session:
            session.settimeout(5)
            session.connect(str(path))
            session.send(message)
            reply = session.recv(16384)
        return struct.unpack_from("=HH", reply)[1] if len(reply) >= 16 else None

    def session_socket(self):
        for file in self.topology.client.runtime.rglob("*"):
            if file.name != "session.sock" or not stat.S_ISSOCK(file.lstat().st_mode):
                continue
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                try:
                    probe.connect(str(file))
                    return file
                except OSError:
                    continue
        raise Failure("no session socket found")

    def test_program_of_another_version(self):
        path = self.session_socket()
        self.assertEqual(self.hello(path, MAGIC, 999), errno.EPROTONOSUPPORT)
        self.assertEqual(self.hello(path, 1, 1), errno.EPROTO)
        self.integrity()

    def test_no_permission(self):
        host = self.topology.client
        if not host.prefix:
            self.skipTest("needs root, to be two users")
        other = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"]
        done = subprocess.run([*other, host.install.program("flexins"), "run", "--engine",
                               host.name, "--", "ibv_devices"], env=host.env, text=True,
                              capture_output=True, timeout=30, cwd="/", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stdout + done.stderr, r"(?i)permission|not yours|owner|another user")

    def test_program_killed_while_it_registers(self):
        for _ in range(10):
            program = Program(self.topology.client, ["integrity", "--device", DEVICE, "--port",
                                                     "19999"], self.topology.folder)
            time.sleep(random.uniform(0, 0.2))
            program.kill()
        self.integrity()


GROUPS = {"failures": Failures}

"""Programs that move blocks or memory over RDMA: fio's rdma engine, QEMU's migration, and that
Ceph's library loads."""

import json
import pathlib
import random
import socket
import unittest

from harness import DEVICE, Failure, Program, free_port, wait_until
from programs import Case, needs
from rdmacm import Ends

CEPH = "librados.so.2"
# As Ceph's messenger begins. Prints what the library that it links, not one of ours, has found.
LOADS_CEPH = f"""
import ctypes
rados = ctypes.CDLL("{CEPH}", mode=ctypes.RTLD_GLOBAL)
verbs = ctypes.CDLL("libibverbs.so.1")
verbs.ibv_get_device_list.restype = ctypes.POINTER(ctypes.c_void_p)
verbs.ibv_get_device_name.restype = ctypes.c_char_p
count = ctypes.c_int()
devices = verbs.ibv_get_device_list(ctypes.byref(count))
print([verbs.ibv_get_device_name(ctypes.c_void_p(devices[i])).decode() for i in range(count.value)])
"""


def document(text):
    """The JSON document of a program that also says other things."""
    return json.loads(text[text.index("{"):text.rindex("}") + 1])


class Monitor:
    """QEMU's machine protocol."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise Failure(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.lines.close()
        self.socket.close()


class Storage(Case):
    """fio, qemu-system-x86_64, librados."""

    def fio(self, verb, client_depth, server_depth):
        total = self.dose(16) << 20
        # Threads, so that nothing is left where it has to be killed.
        words = ["fio", "--thread", "--output-format=json", "--ioengine=rdma", f"--size={total}",
                 f"--port={free_port()}", "--bs=64k"]
        ends = Ends(self.topology, [*words, "--name=server", "--rw=read",
                                    f"--iodepth={server_depth}"])
        try:
            ends.client([*words, "--name=client", "--rw=write", f"--verb={verb}",
                         f"--hostname={self.topology.server.address}",
                         f"--iodepth={client_depth}"])
            server, client = ends.finish(self.limit(20))
        finally:
            ends.kill()
        job = document(client)["jobs"][0]
        self.assertEqual(job["error"], 0, client)
        moved = sum(job[kind]["io_bytes"] for kind in ("read", "write"))
        self.assertEqual(moved, total, client)
        job = document(server)["jobs"][0]
        self.assertEqual(job["error"], 0, server)
        if verb == "send":
            self.assertEqual(job["read"]["io_bytes"], total, server)

    @needs("fio")
    def test_fio(self):
        for verb in ("write", "read"):
            with self.subTest(verb=verb):
                self.fio(verb, 16, 16)
        with self.subTest(verb="send"):
            # It allows no wait for receives (rnr_retry_count 0): there must be more of them.
            self.fio("send", 4, 64)

    def qemu(self, host, *more):
        """An empty machine with 16 MiB of memory."""
        path = host.runtime / f"qmp-{host.name}-{len(more)}"
        program = Program(host, ["qemu-system-x86_64", "-machine", "none", "-m", 16, "-S",
                                 "-nodefaults", "-display", "none", "-qmp",
                                 f"unix:{path},server=on,wait=off", *more], self.topology.folder)
        try:
            wait_until(lambda: path.exists() or program.process.poll() is not None, 10,
                       "QEMU's monitor is there")
            return program, Monitor(path)
        except BaseException as failure:
            program.kill()
            raise Failure(f"{failure}\n{program.describe()}") from None

    def migrate(self, pin_all):
        """What the one machine has in its memory must be in the other's."""
        hosts = self.topology.server, self.topology.client
        length, where = 5 << 20, 1 << 20
        data = random.Random(7).randbytes(length)
        source_file = pathlib.Path(self.topology.folder, "memory")
        source_file.write_bytes(data)
        source_file.chmod(0o644)
        uri = f"rdma:{hosts[0].address}:{free_port()}"
        opened = []
        try:
            opened.append(self.qemu(hosts[0], "-incoming", "defer"))
            opened.append(self.qemu(hosts[1], "-device", f"loader,file={source_file},"
                                    f"addr={where},force-raw=on"))
            target, source = opened[0][1], opened[1][1]
            for monitor in (target, source):
                monitor.ask("migrate-set-capabilities",
                            capabilities=[{"capability": "rdma-pin-all", "state": pin_all}])
            target.ask("migrate-incoming", uri=uri)
            source.ask("migrate", uri=uri)
            wait_until(lambda: source.ask("query-migrate").get("status") in
                       ("completed", "failed"), self.limit(20), "the migration ends")
            self.assertEqual(source.ask("query-migrate")["status"], "completed",
                             "".join(program.describe() for program, _ in opened))
            dump = hosts[0].runtime / "dump"
            target.ask("pmemsave", val=where, size=length, filename=str(dump))
            self.assertEqual(dump.read_bytes(), data)
            for _, monitor in opened:
                monitor.ask("quit")
            for program, _ in opened:
                self.assertEqual(program.wait(10), 0, program.describe())
        finally:
            for program, monitor in opened:
                monitor.close()
                program.kill()

    @needs("qemu-system-x86_64")
    def test_migration(self):
        for pin_all in (False, True):
            with self.subTest(pin_all=pin_all):
                self.migrate(pin_all)

    @unittest.skipUnless(any(pathlib.Path("/usr/lib").glob(f"*/{CEPH}")), f"no {CEPH} here")
    def test_ceph_library(self):
        self.assertIn(DEVICE, self.run_alone("/usr/bin/python3", "-c", LOADS_CEPH))


GROUPS = {"storage": Storage}

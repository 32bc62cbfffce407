"""What is asked of a device beyond moving data: pyverbs' own test suite, and events of the port."""

import gzip
import pathlib
import re
import subprocess
import unittest

from harness import DEVICE, Program, wait_until
from programs import Case

SUITE = pathlib.Path("/usr/share/doc/rdma-core/tests")
# test_rdmacm looks for network devices of the test's own making; those of vendors for their cards.
MODULES = ("addr", "atomic", "cq", "cq_events", "cqex", "device", "fork", "mr", "odp",
           "parent_domain", "pd", "qp", "qpex", "relaxed_ordering", "shared_pd")


def unpack_suite(folder):
    """Debian packs some of the suite's files; gives the folder back that has all as they were."""
    target = pathlib.Path(folder, "pyverbs")
    (target / "tests").mkdir(parents=True)
    for file in SUITE.iterdir():
        data = file.read_bytes()
        name = file.name
        if name.endswith(".gz"):
            data, name = gzip.decompress(data), name.removesuffix(".gz")
        (target / "tests" / name).write_bytes(data)
    target.chmod(0o755)
    return target


class Control(Case):
    """On one engine."""

    @unittest.skipUnless(SUITE.is_dir(), "rdma-core's documentation is not installed")
    def test_pyverbs_suite(self):
        suite = unpack_suite(self.topology.folder)
        words = ["/usr/bin/python3", suite / "tests/run_tests.py", "--dev", DEVICE, "--gid", 0,
                 "-v"]
        for module in MODULES:
            words += ["-k", f"tests.test_{module}."]
        program = Program(self.topology.server, words, self.topology.folder)
        status = program.wait(200)
        self.assertEqual(status, 0, program.describe())
        ran = int(re.search(r"Ran (\d+) tests", program.output)[1])
        skipped = re.search(r"skipped=(\d+)", program.output)
        passed = ran - int(skipped[1] if skipped else 0)
        print(f"pyverbs: {passed} of {ran} pass, the others are skipped")
        self.assertGreater(passed, 60, program.describe())
        wait_until(lambda: self.topology.server.objects() == (0, 0, 0), 5,
                   "the suite leaves nothing behind")


class Events(Case):
    """Between two network namespaces."""

    def link(self, state):
        subprocess.run(["ip", "-n", self.topology.namespaces[0], "link", "set", "eth0", state],
                       check=True)

    def test_port_events(self):
        host = self.topology.server
        program = Program(host, ["stdbuf", "-oL", "ibv_asyncwatch", "-d", DEVICE],
                          self.topology.folder)
        try:
            wait_until(lambda: host.objects()[0] > 0, 10, "the program has opened the device")
            self.link("down")
            wait_until(lambda: "port error" in program.output, 10, program.describe())
            self.assertIn("PORT_DOWN", self.state())
            self.link("up")
            wait_until(lambda: "port active" in program.output, 10, program.describe())
            self.assertIn("PORT_ACTIVE", self.state())
        finally:
            program.kill()
            self.link("up")

    def state(self):
        program = Program(self.topology.server, ["ibv_devinfo", "-d", DEVICE],
                          self.topology.folder)
        self.assertEqual(program.wait(10), 0, program.describe())
        return program.output


GROUPS = {"control": Control, "events": Events}

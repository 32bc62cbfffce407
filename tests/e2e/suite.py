"""rdma-core's own test suite, whole: Debian's python3-pyverbs."""

import contextlib
import gzip
import pathlib
import re
import unittest

from harness import DEVICE, Program, wait_until
from programs import Case

SUITE = pathlib.Path("/usr/share/doc/rdma-core/tests")
HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
HUGE_PAGES_WANTED = 16
# What passed once shall not become a skip unseen. Raw packets, flows and huge pages are root's.
PASSED_MIN = {"root": 148, "user": 143}


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


@contextlib.contextmanager
def huge_pages():
    """Has the system keep some huge pages, where it may be asked: not in every container."""
    before = HUGE_PAGES.read_text()
    try:
        HUGE_PAGES.write_text(str(max(int(before), HUGE_PAGES_WANTED)))
    except OSError as error:
        print(f"no huge pages: {error}")
        yield
        return
    try:
        yield
    finally:
        HUGE_PAGES.write_text(before)


class Suite(Case):
    """Over an interface that has an address, as root or as an ordinary user."""

    @unittest.skipUnless(SUITE.is_dir(), "rdma-core's documentation is not installed")
    def test_pyverbs_suite(self):
        suite = unpack_suite(self.topology.folder)
        words = ["/usr/bin/python3", suite / "tests/run_tests.py", "--dev", DEVICE, "--gid", 0,
                 "-v"]
        with huge_pages():
            program = Program(self.topology.server, words, self.topology.folder)
            status = program.wait(270)
        self.assertEqual(status, 0, program.describe())
        ran = int(re.search(r"Ran (\d+) tests", program.output)[1])
        skipped = re.search(r"skipped=(\d+)", program.output)
        passed = ran - int(skipped[1] if skipped else 0)
        print(f"pyverbs: {passed} of {ran} pass, the others are skipped")
        self.assertGreaterEqual(passed, PASSED_MIN["user" if self.topology.is_users else "root"],
                                program.describe())
        wait_until(lambda: self.topology.server.objects() == (0, 0, 0), 5,
                   "the suite leaves nothing behind")


GROUPS = {"suite": Suite}

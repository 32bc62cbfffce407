"""What is asked of a device beyond moving data: loading it late, long chains, port events."""

import re
import subprocess
import unittest

from harness import DEVICE, Program, wait_until
from programs import Case
from suite import SUITE

# As programs do that do not want libibverbs' names in the way of their own.
LOADED_LATE = """
import ctypes, os
lib = ctypes.CDLL("libibverbs.so.1", mode=os.RTLD_LOCAL | os.RTLD_NOW)
for name in ("ibv_get_device_list", "ibv_open_device", "ibv_alloc_pd", "ibv_create_comp_channel",
             "ibv_create_cq"):
    getattr(lib, name).restype = ctypes.c_void_p
count = ctypes.c_int()
devices = ctypes.cast(lib.ibv_get_device_list(ctypes.byref(count)),
                      ctypes.POINTER(ctypes.c_void_p))
assert count.value >= 1
contexts = [ctypes.c_void_p(lib.ibv_open_device(ctypes.c_void_p(devices[0]))) for _ in range(3)]
for context in contexts:
    assert context.value
    channel = ctypes.c_void_p(lib.ibv_create_comp_channel(context))
    assert channel.value
    cq = ctypes.c_void_p(lib.ibv_create_cq(context, 64, None, channel, 1))
    assert cq.value
    assert lib.ibv_destroy_cq(cq) == 0 and lib.ibv_destroy_comp_channel(channel) == 0
for context in contexts:
    assert lib.ibv_close_device(context) == 0
print("loaded late")
"""

# As programs do that look for devices by themselves: the character device must be one, the device
# must be somewhere on a bus, and sysfs must say the kind of each GID and whose address it is.
FOUND = """
import os, stat
for device in os.listdir("/sys/class/infiniband_verbs"):
    if not device.startswith("uverbs"):
        continue
    name = open(f"/sys/class/infiniband_verbs/{device}/ibdev").read().strip()
    assert stat.S_ISCHR(os.stat(f"/dev/infiniband/{device}").st_mode)
    bus = os.path.realpath(f"/sys/class/infiniband/{name}/../..")
    assert bus.startswith("/sys/devices/"), bus
    port = f"/sys/class/infiniband/{name}/ports/1"
    assert open(f"{port}/gid_attrs/types/0").read() == "RoCE v2\\n"
    interface = open(f"{port}/gid_attrs/ndevs/0").read().strip()
    assert os.path.exists(f"/sys/class/net/{interface}"), interface
    assert len(open(f"{port}/gids/0").read().split(":")) == 8
    print("found", name)
"""

# A queue pair that is connected to itself, and chains as long as its send queue.
CHAIN = """
import pyverbs.enums as e
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR
COUNT, SIZE = 256, 4096
context = Context(name="flexins0")
pd, cq = PD(context), CQ(context, 2 * COUNT)
rights = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
mr = MR(pd, 2 * COUNT * SIZE, rights)
cap = QPCap(max_send_wr=COUNT, max_recv_wr=1, max_send_sge=1, max_recv_sge=1)
qp = QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=cap))
attr = QPAttr(port_num=1)
attr.qp_access_flags = rights
qp.to_init(attr)
attr.dest_qp_num, attr.path_mtu = qp.qp_num, e.IBV_MTU_1024
attr.max_dest_rd_atomic = attr.max_rd_atomic = 1
attr.min_rnr_timer, attr.timeout, attr.retry_cnt, attr.rnr_retry = 12, 14, 7, 7
gr = GlobalRoute(dgid=context.query_gid(1, 0), sgid_index=0)
attr.ah_attr = AHAttr(port_num=1, is_global=1, gr=gr)
qp.to_rts(attr)
for round in range(4):
    pattern = bytes((round + i) % 251 for i in range(COUNT * SIZE))
    mr.write(pattern, COUNT * SIZE)
    chain = []
    for i in reversed(range(COUNT)):
        at = mr.buf + i * SIZE
        wr = SendWR(wr_id=i, opcode=e.IBV_WR_RDMA_WRITE, num_sge=1, sg=[SGE(at, SIZE, mr.lkey)],
                    send_flags=e.IBV_SEND_SIGNALED)
        wr.set_wr_rdma(mr.rkey, at + COUNT * SIZE)
        if chain:
            wr.next_wr = chain[-1]
        chain.append(wr)
    qp.post_send(chain[-1])
    done = []
    while len(done) < COUNT:
        done += [wc for wc in cq.poll(COUNT)[1]]
    assert [wc.wr_id for wc in done] == list(range(COUNT))
    assert all(wc.status == e.IBV_WC_SUCCESS for wc in done)
    assert mr.read(COUNT * SIZE, COUNT * SIZE) == pattern
print("every chain is right")
"""


class Control(Case):
    """On one engine."""

    def run_script(self, script, expected):
        program = Program(self.topology.server, ["/usr/bin/python3", "-c", script],
                          self.topology.folder)
        self.assertEqual(program.wait(60), 0, program.describe())
        self.assertIn(expected, program.output)

    def test_loaded_late(self):
        self.run_script(LOADED_LATE, "loaded late")

    def test_found_by_itself(self):
        self.run_script(FOUND, f"found {DEVICE}")

    @unittest.skipUnless(SUITE.is_dir(), "pyverbs is not installed")
    def test_chains(self):
        self.run_script(CHAIN, "every chain is right")

    def test_simulation(self):
        """A seed is the same run each time, and what went over its wires can be looked at."""
        host = self.topology.server
        trace = host.runtime / "sim.pcapng"

        def simulate(seed, *more):
            text = host.flexins("sim", "--seed", seed, "--duration", "2ms", *more).stdout
            return (re.search(r"trace hash +(\w+)", text)[1],
                    int(re.search(r"(\d+) delivered", text)[1]))

        first = simulate("3")
        self.assertEqual(first, simulate("3", "--trace", str(trace)))
        self.assertNotEqual(first, simulate("4"))
        packets = subprocess.run(["tshark", "-r", trace], text=True, capture_output=True,
                                 check=True).stdout
        self.assertEqual(packets.count("RRoCE"), first[1])
        self.assertEqual(host.flexins("sim", "--profile", "none", check=False).returncode, 2)


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
            wait_until(lambda: "PORT_ERR" in program.output, 10, program.describe())
            self.assertIn("PORT_DOWN", self.state())
            self.link("up")
            wait_until(lambda: "PORT_ACTIVE" in program.output, 10, program.describe())
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

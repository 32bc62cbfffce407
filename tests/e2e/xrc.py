"""Extended reliable connections, by Debian's programs and through pyverbs."""

import unittest

import suite
from harness import DEVICE, Program
from programs import Perftest

# Two programs share a domain. One has the target; the other sends through it, to an SRQ of its own.
SHARED = """
import os, tempfile
import pyverbs.enums as e
from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttrEx
from pyverbs.srq import SRQ, SrqInitAttrEx
from pyverbs.wr import SGE, RecvWR, SendWR
from pyverbs.xrcd import XRCD, XRCDInitAttr
SIZE = 9000
file = tempfile.TemporaryFile()
def open_domain(context, flags):
    mask = e.IBV_XRCD_INIT_ATTR_FD | e.IBV_XRCD_INIT_ATTR_OFLAGS
    return XRCD(context, XRCDInitAttr(mask, flags, file.fileno()))
def connect(context, qp, peer, access):
    attr = QPAttr(port_num=1)
    attr.qp_access_flags = access
    qp.to_init(attr)
    attr.dest_qp_num, attr.path_mtu = peer, e.IBV_MTU_1024
    attr.max_dest_rd_atomic = attr.max_rd_atomic = 1
    attr.min_rnr_timer, attr.timeout, attr.retry_cnt, attr.rnr_retry = 12, 14, 7, 7
    gr = GlobalRoute(dgid=context.query_gid(1, 0), sgid_index=0)
    attr.ah_attr = AHAttr(port_num=1, is_global=1, gr=gr)
    qp.to_rts(attr)
to_owner, from_owner = os.pipe(), os.pipe()
def ask(pipe): return int(os.read(pipe[0], 16))
def tell(pipe, number): os.write(pipe[1], b"%16d" % number)
owner = os.fork()
if owner == 0:
    context = Context(name="flexins0")
    xrcd = open_domain(context, os.O_CREAT | os.O_EXCL)
    target = QP(context, QPInitAttrEx(qp_type=e.IBV_QPT_XRC_RECV, xrcd=xrcd,
                                      comp_mask=e.IBV_QP_INIT_ATTR_XRCD), QPAttr(port_num=1))
    tell(from_owner, target.qp_num)
    connect(context, target, ask(to_owner), e.IBV_ACCESS_REMOTE_WRITE)
    tell(from_owner, 0)
    ask(to_owner)
    os._exit(0)
peer = ask(from_owner)
context = Context(name="flexins0")
try:
    open_domain(context, os.O_CREAT | os.O_EXCL)
    raise AssertionError("O_EXCL has found nothing")
except PyverbsRDMAError:
    pass
xrcd = open_domain(context, 0)
pd, cq = PD(context), CQ(context, 16)
wanted = SrqInitAttrEx(max_wr=4)
wanted.srq_type, wanted.pd, wanted.xrcd, wanted.cq = e.IBV_SRQT_XRC, pd, xrcd, cq
wanted.comp_mask = (e.IBV_SRQ_INIT_ATTR_TYPE | e.IBV_SRQ_INIT_ATTR_PD | e.IBV_SRQ_INIT_ATTR_CQ |
                    e.IBV_SRQ_INIT_ATTR_XRCD)
srq = SRQ(context, wanted)
qp = QP(context, QPInitAttrEx(qp_type=e.IBV_QPT_XRC_SEND, comp_mask=e.IBV_QP_INIT_ATTR_PD, pd=pd,
                              scq=cq, cap=QPCap(max_send_wr=4)), QPAttr(port_num=1))
tell(to_owner, qp.qp_num)
ask(from_owner)
connect(context, qp, peer, 0)
mr = MR(pd, 2 * SIZE, e.IBV_ACCESS_LOCAL_WRITE)
for round in range(20):
    pattern = bytes((round + i) % 251 for i in range(SIZE))
    mr.write(pattern, SIZE)
    srq.post_recv(RecvWR(wr_id=2, num_sge=1, sg=[SGE(mr.buf + SIZE, SIZE, mr.lkey)]))
    wr = SendWR(wr_id=1, opcode=e.IBV_WR_SEND, num_sge=1, sg=[SGE(mr.buf, SIZE, mr.lkey)],
                send_flags=e.IBV_SEND_SIGNALED)
    wr.set_qp_type_xrc(srq.get_srq_num())
    qp.post_send(wr)
    done = {}
    while len(done) < 2:
        for wc in cq.poll(2)[1]:
            assert wc.status == e.IBV_WC_SUCCESS, wc
            done[wc.wr_id] = wc.qp_num
    assert done == {1: qp.qp_num, 2: peer}, done
    assert mr.read(SIZE, SIZE) == pattern
tell(to_owner, 0)
assert os.waitpid(owner, 0)[1] == 0
print("through the other's target")
"""


class ExtendedReliable(Perftest):
    """ibv_xsrq_pingpong, perftest over XRC, and a domain that two programs share."""

    def test_pingpong(self):
        for more in ((), ("-e",), ("-s", 70000)):
            with self.subTest(more=more):
                words = ["ibv_xsrq_pingpong", "-d", DEVICE, "-g", 0, "-n", self.dose(200), *more]
                self.run_pair(words)

    def test_bandwidth(self):
        for verb in ("send", "write", "read"):
            with self.subTest(verb=verb):
                self.perftest(f"ib_{verb}_bw", 200, "-c", "XRC")

    def test_ways_of_sending(self):
        for more in (("-q", 4), ("-b",), ("-e",), ("--use_old_post_send",)):
            with self.subTest(more=more):
                self.perftest("ib_send_bw", 200, "-c", "XRC", *more)

    def test_latency(self):
        for verb in ("send", "write"):
            with self.subTest(verb=verb):
                self.perftest(f"ib_{verb}_lat", 100, "-c", "XRC", seconds=60)

    def test_atomics(self):
        self.perftest("ib_atomic_bw", 100, "-c", "XRC")

    @unittest.skipUnless(suite.SUITE.is_dir(), "pyverbs is not installed")
    def test_shared_domain(self):
        program = Program(self.topology.server, ["/usr/bin/python3", "-c", SHARED],
                          self.topology.folder)
        self.assertEqual(program.wait(self.limit(20)), 0, program.describe())
        self.assertIn("through the other's target", program.output)


GROUPS = {"xrc": ExtendedReliable}

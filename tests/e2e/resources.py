"""What programs made and destroyed leaves nothing in the engine: neither objects nor memory."""

import pathlib
import unittest

from control import SUITE
from harness import DEVICE, Program, wait_until
from programs import Case

WARM_UP, ROUNDS = 100, 1000
# The engine's allocator keeps pages that it has once had in use, and how many depends on which of
# its threads frees what first. A leak of 300 bytes a round would be beyond this.
SLACK_KIB = 256

# One round makes one object of every kind that takes no privilege, and destroys it.
ROUND_SCRIPT = """
import os, sys, time
import pyverbs.enums as e
from pyverbs.addr import AH, AHAttr, GlobalRoute
from pyverbs.cq import CQ, CQEX, CompChannel, CqInitAttrEx
from pyverbs.device import AllocDmAttr, Context, DM
from pyverbs.mr import DMMR, MR, MW
from pyverbs.pd import PD, ParentDomain, ParentDomainInitAttr
from pyverbs.qp import QP, QPCap, QPInitAttr
from pyverbs.srq import SRQ, SrqAttr, SrqInitAttr
from pyverbs.wq import RwqIndTable, RwqIndTableInitAttr, WQ, WQInitAttr
WARM_UP, ROUNDS, FOLDER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rights = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE
context = Context(name="flexins0")
kept = PD(context)

def make_all():
    made = [Context(name="flexins0"), PD(context)]
    pd = made[1]
    made.append(ParentDomain(context, ParentDomainInitAttr(pd=pd)))
    channel = CompChannel(context)
    cq = CQ(context, 64, None, channel, 0)
    made += [channel, cq, CQEX(context, CqInitAttrEx(cqe=64))]
    srq = SRQ(pd, SrqInitAttr(SrqAttr(max_wr=64, max_sge=2)))
    made.append(srq)
    cap = QPCap(max_send_wr=64, max_recv_wr=64, max_send_sge=2, max_recv_sge=2)
    for kind in (e.IBV_QPT_RC, e.IBV_QPT_UC, e.IBV_QPT_UD):
        made.append(QP(pd, QPInitAttr(qp_type=kind, scq=cq, rcq=cq, cap=cap)))
    made.append(QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, srq=srq, cap=cap)))
    route = GlobalRoute(dgid=context.query_gid(1, 0), sgid_index=0)
    made.append(AH(pd, attr=AHAttr(port_num=1, is_global=1, gr=route)))
    made += [MR(pd, 65536, rights), MR(pd, 100, rights), MW(pd, e.IBV_MW_TYPE_2)]
    memory = DM(context, AllocDmAttr(length=4096))
    made += [memory, DMMR(pd, 4096, e.IBV_ACCESS_ZERO_BASED | rights, memory, 0)]
    wq = WQ(context, WQInitAttr(wq_context=None, wq_pd=pd, wq_cq=cq, wq_type=e.IBV_WQT_RQ,
                                max_wr=64, max_sge=1, comp_mask=0, create_flags=0))
    made += [wq, RwqIndTable(context, RwqIndTableInitAttr(1, [wq, wq]))]
    return made

def rounds(count):
    for _ in range(count):
        for one in reversed(make_all()):
            one.close()

for name, count in (("warm", WARM_UP), ("over", ROUNDS)):
    rounds(count)
    print(name, flush=True)
    while not os.path.exists(os.path.join(FOLDER, name)):
        time.sleep(0.02)
"""


def resident_kib(pid):
    """Memory that is the engine's own: pages that it shares with programs are theirs, too."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


class Resources(Case):
    """On one engine."""

    def holdings(self):
        """Of the one context that is open, and of its tenant, everything that is counted."""
        status = self.topology.server.status()
        (context,) = status["contexts"]
        return context, status["tenants"]

    @unittest.skipUnless(SUITE.is_dir(), "pyverbs is not installed")
    def test_a_thousand_of_each(self):
        server, folder = self.topology.server, self.topology.folder
        program = Program(server, ["/usr/bin/python3", "-c", ROUND_SCRIPT, WARM_UP, ROUNDS,
                                   folder], folder)
        seen = {}
        try:
            for name, patience in (("warm", 60), ("over", 240)):
                wait_until(lambda name=name: name in program.output.split() or
                           program.process.poll() is not None, patience, f"rounds: {name}")
                self.assertIn(name, program.output.split(), program.describe())
                seen[name] = self.holdings(), resident_kib(server.pid())
                pathlib.Path(folder, name).touch()
            self.assertEqual(program.wait(10), 0, program.describe())
        finally:
            program.kill()
        self.assertEqual(seen["over"][0], seen["warm"][0])
        grown = seen["over"][1] - seen["warm"][1]
        print(f"{ROUNDS} rounds: the engine has grown by {grown} KiB")
        self.assertLess(grown, SLACK_KIB)


GROUPS = {"resources": Resources}

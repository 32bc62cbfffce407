"""Open MPI: ranks on the engines of both hosts, and a program of ours that checks what it gets."""

import pathlib
import subprocess
import tempfile

from harness import DEVICE, Program
from programs import Case, needs

SOURCE = pathlib.Path(__file__).with_name("mpi_exchange.c")
RANKS_PER_HOST = 2
# Open MPI's remote shell: a host's name is that of its network namespace.
SHELL = """#!/bin/sh
host=$1; shift
case $host in
{cases}
*) exit 1 ;;
esac
"""


@needs("mpirun", "mpicc")
class Mpi(Case):
    """mpirun, through UCX and through libfabric."""

    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(dir=self.topology.folder))
        self.work.chmod(0o755)
        self.program = self.work / "mpi_exchange"
        done = subprocess.run(["mpicc", "-O1", "-std=c11", "-o", self.program, SOURCE],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def shell(self):
        """Writes the remote shell; with it, a daemon of mpirun's finds the engine of its host."""
        cases = "\n".join(
            f"{namespace}) exec ip netns exec {namespace} env"
            f" FLEXINS_RUNTIME_DIR={host.runtime} HOME={host.runtime} TMPDIR={host.runtime}"
            f' {host.install.program("flexins")} run --engine {host.name} -- sh -c "$*" ;;'
            for namespace, host in zip(self.topology.namespaces, self.topology.hosts))
        path = self.work / "shell"
        path.write_text(SHELL.format(cases=cases))
        path.chmod(0o755)
        return path

    def places(self, words):
        """What tells mpirun where to run how many ranks of `words`."""
        if self.topology.namespaces:
            hosts = ",".join(f"{name}:{RANKS_PER_HOST}" for name in self.topology.namespaces)
            return ["--host", hosts, "--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.shell(),
                    "--mca", "oob_tcp_if_include", "eth0", *words]
        # All ranks on this machine, each half with an engine of its own.
        contexts = []
        for host in (self.topology.server, self.topology.client):
            contexts += [":"] if contexts else []
            contexts += ["-np", RANKS_PER_HOST, "env", f"FLEXINS_RUNTIME_DIR={host.runtime}",
                         host.install.program("flexins"), "run", "--engine", host.name, "--",
                         *words]
        return contexts

    def exchange(self, *choice, more=(), env=None):
        exports = [word for name, value in (env or {}).items()
                   for word in ("-x", f"{name}={value}")]
        words = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--mca", "btl", "self",
                 *choice, *exports, *self.places([self.program, *more])]
        program = Program(self.topology.server, words, self.topology.folder,
                          {"TMPDIR": str(self.topology.server.runtime)}, native=True)
        before = self.requests()
        try:
            self.assertEqual(program.wait(self.limit(60)), 0,
                             program.describe() + self.topology.server.report())
            self.assertIn("4 ranks: every byte is right", program.output)
            self.assertGreater(self.requests() - before, 100, "it went another way")
        finally:
            program.kill()

    def requests(self):
        return self.topology.server.count("work_requests")

    def test_ucx(self):
        self.exchange("--mca", "pml", "ucx", "--mca", "osc", "ucx", more=("one-sided",),
                      env={"UCX_TLS": "rc_v,ud_v,self", "UCX_NET_DEVICES": f"{DEVICE}:1"})

    def test_libfabric(self):
        if not self.topology.namespaces:
            self.skipTest("libfabric leaves loopback interfaces alone")
        self.exchange("--mca", "pml", "cm", "--mca", "mtl", "ofi", "--mca",
                      "mtl_ofi_provider_include", "verbs;ofi_rxm",
                      env={"FI_PROVIDER": "verbs;ofi_rxm"})


GROUPS = {"mpi": Mpi}

"""Where the two ends of a program stand."""

import os
import shutil
import subprocess
import tempfile

import harness


class Topology:
    """`server` and `client` are hosts; the same one twice where both ends share an engine."""

    def __init__(self, name, build):
        self.name = name
        self.folder = tempfile.mkdtemp(prefix="flexins-e2e-")
        os.chmod(self.folder, 0o711)
        self.namespaces = []
        self.hosts = []
        self.has_faults = name == "faults"
        self.is_one_engine = name == "one"
        try:
            self.install = harness.Install(build, self.folder)
            self.make_hosts()
            self.server, self.client = self.hosts[0], self.hosts[-1]
            for host in self.hosts:
                host.up()
            if self.has_faults:
                for host in self.hosts:
                    host.flexins("faults", "--engine", host.name, "set", "loss=1%",
                                 "duplicate=1%", "reorder=5%")
        except BaseException:
            self.close()
            raise

    def make_hosts(self):
        if self.name.startswith("namespaces"):
            self.make_namespaces(int(self.name.removeprefix("namespaces")))
            return
        user = harness.ordinary_user()
        env = {"FLEXINS_ADOPT": "0"} if self.name == "noadopt" else None
        names = ["a"] if self.is_one_engine else ["a", "b"]
        # Loopback addresses of this run's own: an engine that the developer has keeps its own.
        net = f"127.{1 + os.getpid() // 250 % 250}.{os.getpid() % 250}"
        for number, name in enumerate(names, 1):
            self.hosts.append(harness.Host(self.install, name, f"{net}.{number}", self.folder,
                                           user=user, env=env))

    def make_namespaces(self, mtu):
        names = [f"flexins-{os.getpid()}-{side}" for side in "ab"]
        for name in names:
            ip("netns", "add", name)
            self.namespaces.append(name)
        ip("-n", names[0], "link", "add", "eth0", "mtu", str(mtu), "type", "veth", "peer", "name",
           "eth0", "mtu", str(mtu), "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
            self.hosts.append(harness.Host(self.install, "ab"[number - 1], f"10.77.0.{number}",
                                           self.folder, namespace=name))

    def close(self):
        for host in self.hosts:
            host.down()
        for name in self.namespaces:
            ip("netns", "delete", name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ip(*words):
    subprocess.run(["ip", *words], check=True)


NAMES = ("one", "two", "namespaces9000", "namespaces1500", "faults", "noadopt")


def why_not(name):
    """Why this topology cannot be had here; None if it can."""
    if not name.startswith("namespaces"):
        return None
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"flexins-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        return f"no network namespaces here: {done.stderr.strip()}"
    ip("netns", "delete", probe)
    return None

"""Where the two ends of a program stand."""

import os
import shutil
import subprocess
import tempfile

import harness


IPV6_ON_LOOPBACK = ("ip link set lo up && for n in 1 2; do"
                    " ip address add fd77::$n/128 dev lo nodad;"
                    " ip address add 10.77.0.$n/32 dev lo; done")
ONE_LINK = ("ip link set lo up && ip link add eth0 mtu 9000 type veth peer name eth1 mtu 9000 &&"
            " ip address add 10.77.0.1/24 dev eth0 && ip link set eth0 up && ip link set eth1 up")


class Topology:
    """`server` and `client` are hosts; the same one twice where both ends share an engine."""

    def __init__(self, name, build):
        self.name = name
        self.folder = tempfile.mkdtemp(prefix="flexins-e2e-")
        os.chmod(self.folder, 0o711)
        self.namespaces = []
        self.holder = None  # process that keeps a user's network namespace
        self.hosts = []
        self.has_faults = name == "faults"
        self.is_one_engine = name == "one"
        self.is_users = not (name.startswith("namespaces") or name in ("ipv6", "neighboursnet"))
        try:
            self.install = harness.Install(build, self.folder)
            self.make_hosts()
            self.server, self.client = self.hosts[0], self.hosts[-1]
            for host in self.hosts:
                if self.name.startswith("neighbours"):
                    host.options = ["--neighbours-dir", self.meeting_directory()]
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
        if self.name in ("ipv6", "neighboursnet"):
            self.make_namespaces(9000)
            return
        if self.name == "ipv6user":
            self.make_user_namespace(IPV6_ON_LOOPBACK)
            self.add_hosts_inside("ab", ["fd77::{}", "10.77.0.{}"])
            return
        if self.name == "usernet":
            self.make_user_namespace(ONE_LINK)
            self.add_hosts_inside("a", ["10.77.0.{}"])
            return
        user = harness.ordinary_user()
        env = {"FLEXINS_ADOPT": "0"} if self.name == "noadopt" else None
        names = ["a"] if self.is_one_engine else ["a", "b"]
        # Loopback addresses of this run's own: an engine that the developer has keeps its own.
        net = f"127.{1 + os.getpid() // 250 % 250}.{os.getpid() % 250}"
        for number, name in enumerate(names, 1):
            self.hosts.append(harness.Host(self.install, name, f"{net}.{number}", self.folder,
                                           user=user, env=env))

    def meeting_directory(self):
        """Where both engines find each other, as each has a runtime directory of its own."""
        path = os.path.join(self.folder, "neighbours")
        if not os.path.exists(path):
            os.mkdir(path, mode=0o700)
            if self.is_users and (user := harness.ordinary_user()) is not None:
                os.chown(path, user, user)
        return path

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
            addresses = [f"10.77.0.{number}"]
            if self.name == "ipv6":
                # Programs meet over IPv4; GID 0 is IPv6, GID 1 the IPv4 address.
                addresses.insert(0, f"fd77::{number}")
                ip("-n", name, "address", "add", f"fd77::{number}/64", "dev", "eth0", "nodad")
            self.hosts.append(harness.Host(self.install, "ab"[number - 1], addresses[-1],
                                           self.folder, namespace=name, addresses=addresses))

    def make_user_namespace(self, script):
        """A network namespace of an ordinary user's own, prepared by `script`."""
        self.user = harness.ordinary_user()
        self.holder = subprocess.Popen([*become(self.user), "unshare", "-Urn", "sh", "-c",
                                        f"{script} && echo ready && exec sleep 3600"],
                                       stdout=subprocess.PIPE, text=True, cwd="/")
        if self.holder.stdout.readline() != "ready\n":
            raise harness.Failure("no addresses in a user's network namespace")

    def add_hosts_inside(self, names, addresses):
        """Engines in the user's namespace; the last address is where programs meet."""
        inside = ["nsenter", f"--target={self.holder.pid}", "--user", "--net",
                  "--preserve-credentials"]
        for number, name in enumerate(names, 1):
            own = [address.format(number) for address in addresses]
            self.hosts.append(harness.Host(self.install, name, own[-1], self.folder,
                                           user=self.user, inside=inside, addresses=own))

    def close(self):
        for host in self.hosts:
            host.down()
        for name in self.namespaces:
            ip("netns", "delete", name)
        if self.holder is not None:
            self.holder.kill()
            self.holder.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def become(user):
    """Words in front of a command that is to run as `user`; None: as who we are."""
    if user is None:
        return []
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def ip(*words):
    subprocess.run(["ip", *words], check=True)


NAMES = ("one", "two", "namespaces9000", "namespaces1500", "faults", "noadopt",
         "ipv6", "ipv6user", "usernet", "neighbours", "neighboursnet")


def why_not(name):
    """Why this topology cannot be had here; None if it can."""
    if name in ("ipv6user", "usernet"):
        words = IPV6_ON_LOOPBACK if name == "ipv6user" else ONE_LINK
        done = subprocess.run([*become(harness.ordinary_user()), "unshare", "-Urn", "sh", "-c",
                               words], capture_output=True, text=True, check=False, cwd="/")
        return f"no such user namespaces: {done.stderr.strip()}" if done.returncode else None
    if name not in ("ipv6", "neighboursnet") and not name.startswith("namespaces"):
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

"""Starts engines and the two ends of a program, and says what happened when something is wrong."""

import json
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

NOBODY = 65534
DEVICE = "flexins0"


class Failure(AssertionError):
    """Something did not work; the message has the outputs of all that took part."""


def flatten(value, name=""):
    """Yields (dotted name, value) of all leaves of a JSON document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for inner in value:
            yield from flatten(inner, name)
    else:
        yield name, value


class Install:
    """Where the programs are, and in a place that an ordinary user can reach too."""

    def __init__(self, build, folder):
        self.root = pathlib.Path(build).resolve()
        if os.geteuid() == 0 and not self.is_reachable_by_all():
            self.root = pathlib.Path(folder, "install")
            for part in ("bin", "lib"):
                (self.root / part).mkdir(parents=True)
            build = pathlib.Path(build)
            for name in ("events_check", "flexins", "flexinsd", "integrity", "multicast",
                         "placement_poller", "tcp_pingpong"):
                if not (build / "bin" / name).exists():
                    continue
                shutil.copy2(build / "bin" / name, self.root / "bin" / name)
            for library in (build / "lib").glob("*.so*"):
                shutil.copy2(library, self.root / "lib" / library.name, follow_symlinks=False)

    def is_reachable_by_all(self):
        return all(part.stat().st_mode & 0o1 for part in (self.root / "bin").parents)

    def program(self, name):
        ours = self.root / "bin" / name
        return str(ours) if ours.exists() else name


class Host:
    """One engine, and how programs are started beside it: by whom, in which network namespace."""

    def __init__(self, install, name, address, folder, *, user=None, namespace=None, env=None,
                 addresses=(), inside=()):
        """`address` is what programs of the other end connect to, `addresses` the engine's own
        where those are others; `inside` is a command that runs another one elsewhere."""
        self.install = install
        self.name = name
        self.address = address
        self.addresses = addresses or [address]
        self.runtime = pathlib.Path(folder, f"runtime-{name}")
        self.runtime.mkdir(mode=0o700)
        self.prefix = []
        if namespace:
            self.prefix += ["ip", "netns", "exec", namespace]
        if user is not None:
            os.chown(self.runtime, user, user)
            self.prefix += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        self.prefix += inside
        self.env = {key: value for key, value in os.environ.items()
                    if not key.startswith(("FLEXINS_", "RDMAV_", "XDG_RUNTIME"))}
        self.env |= {"FLEXINS_RUNTIME_DIR": str(self.runtime), "HOME": str(self.runtime)}
        self.env |= env or {}
        self.options = []  # of `flexins up`, beyond name and addresses

    def flexins(self, *words, check=True, timeout=30, env=None):
        """Runs the command-line tool; gives the CompletedProcess back."""
        command = [*self.prefix, self.install.program("flexins"), *words]
        done = subprocess.run(command, env=self.env | (env or {}), text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, capture_output=True, cwd="/", check=False)
        if check and done.returncode != 0:
            raise Failure(f"`flexins {' '.join(words)}` ended with {done.returncode}\n"
                          f"{done.stdout}{done.stderr}")
        return done

    def up(self, check=True):
        addresses = [word for address in self.addresses for word in ("--address", address)]
        return self.flexins("up", "--name", self.name, *addresses, *self.options, check=check)

    def down(self):
        """Stops the engine, whatever state it is in."""
        self.flexins("down", "--engine", self.name, "--force", check=False)

    def status(self):
        return json.loads(self.flexins("status", "--engine", self.name, "--json").stdout)

    def pid(self):
        """The engine's process id; None if it does not run."""
        done = self.flexins("status", "--engine", self.name, "--json", check=False)
        return json.loads(done.stdout)["engine"]["pid"] if done.returncode == 0 else None

    def count(self, pattern):
        """The sum of all counters whose name ends like `pattern`."""
        ending = re.compile(rf"(^|[._])({pattern})$")
        return sum(value for name, value in flatten(self.status())
                   if isinstance(value, int) and ending.search(name))

    def objects(self):
        """How many contexts, QPs and regions the engine holds."""
        status = self.status()
        return tuple(len(status[kind]) for kind in ("contexts", "qps", "regions"))

    def report(self):
        try:
            done = self.flexins("status", "--engine", self.name, "--json", check=False, timeout=5)
            text = done.stdout or done.stderr
        except subprocess.TimeoutExpired:
            text = "no answer within 5 s\n"
        logs = "".join(f"--- {file}\n{file.read_text(errors='replace')[-4000:]}"
                       for file in self.runtime.rglob("*log*") if file.is_file())
        return f"--- engine {self.name}\n{text[-6000:]}\n{logs}"


def is_engine(pid):
    try:
        return "flexinsd" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


# Names of the programs that the test under way has run, for the table of docs/compatibility.md.
STARTED = set()


def tried(words):
    """The program that a command is about: what only sets its output up is not."""
    return str(words[2] if words[0] == "stdbuf" else words[0])


class Program:
    """A program under `flexins run`; with `native`, without it."""

    def __init__(self, host, words, folder, env=None, native=False):
        STARTED.add(tried(words))
        self.host = host
        self.words = [host.install.program(words[0]), *map(str, words[1:])]
        self.output_path = tempfile.mktemp(prefix="output-", dir=folder)
        run = [host.install.program("flexins"), "run", "--engine", host.name, "--"]
        command = [*host.prefix, *([] if native else run), *self.words]
        with open(self.output_path, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(command, env=host.env | (env or {}), stdout=output,
                                            stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                            start_new_session=True, cwd="/")

    @property
    def output(self):
        return pathlib.Path(self.output_path).read_text(encoding="utf-8", errors="replace")

    def listens_on(self, port):
        """Whether its network namespace has a TCP listener on that port."""
        wanted = f":{port:04X}"
        for table in ("tcp", "tcp6"):
            try:
                lines = pathlib.Path(f"/proc/{self.process.pid}/net/{table}").read_text()
            except OSError:
                continue
            for line in lines.splitlines()[1:]:
                columns = line.split()
                if columns[1].endswith(wanted) and columns[3] == "0A":
                    return True
        return False

    def wait_listening(self, port, seconds=20):
        deadline = time.monotonic() + seconds
        while not self.listens_on(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"no listener on port {port}\n{self.describe()}")
            time.sleep(0.02)

    def kill(self):
        """Kills it and its children."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def wait(self, seconds):
        """Its status; None (and it is killed) when it has not ended by then."""
        try:
            return self.process.wait(max(seconds, 0.01))
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def describe(self):
        status = self.process.poll()
        return (f"--- {' '.join(self.words)}\n    on engine {self.host.name}: "
                f"{'still runs' if status is None else f'ended with {status}'}\n"
                f"{self.output[-6000:]}")


def free_port():
    """A TCP port that nobody uses here. The ephemeral range is left alone."""
    while True:
        port = random.randint(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
                return port
            except OSError:
                continue


class Pair:
    """The two ends of a program: the server, and the client that is told its address."""

    def __init__(self, topology, words, *, port_flag="-p", env=None, server_words=None,
                 native=False, host_flag=None):
        self.topology = topology
        port = free_port()
        words = [*words, port_flag, port]
        server_words = [*server_words, port_flag, port] if server_words else words
        self.server = Program(topology.server, server_words, topology.folder, env, native)
        try:
            self.server.wait_listening(port)
        except BaseException:
            self.server.kill()
            raise
        to_server = [host_flag] if host_flag else []
        self.client = Program(topology.client, [*words, *to_server, topology.server.address],
                              topology.folder, env, native)

    def finish(self, seconds):
        """Both must end well in time; gives their outputs back."""
        deadline = time.monotonic() + seconds
        client = self.client.wait(seconds)
        # After a failed client the server has nothing left to wait for.
        server = self.server.wait(deadline - time.monotonic() if client == 0 else 3)
        if client != 0 or server != 0:
            why = "did not end in time" if None in (client, server) else "failed"
            raise Failure(self.describe(f"{why} (limit {seconds} s)"))
        return self.server.output, self.client.output

    def wait_until(self, condition, seconds, what):
        """As the function; says all about the pair where it fails."""
        try:
            wait_until(condition, seconds, what)
        except Failure as failure:
            raise Failure(self.describe(str(failure))) from None

    def describe(self, why):
        hosts = {host.name: host for host in (self.topology.server, self.topology.client)}
        return "\n".join([why, self.server.describe(), self.client.describe(),
                          *(host.report() for host in hosts.values())])

    def kill(self):
        self.client.kill()
        self.server.kill()


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def ordinary_user():
    """Whom to become for what must work without privileges; None: we are ordinary already."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return NOBODY


def require(condition, message):
    if not condition:
        raise Failure(message)


if __name__ == "__main__":
    sys.exit("a module; the program is run.py")

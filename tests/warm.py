"""genzoo commands as forks of one warm interpreter: real processes that skip the seconds of importing torch.

Run as a script, this file is the server: it imports torch and genzoo, and forks a child for every request on its Unix
socket. The child has arguments, folder, environment and output files of its own, and runs its exit handlers. It runs
`genzoo ARGS`, or with the arguments `-c CODE` that code, as Python would.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

IMPORTS = ("genzoo.cli.list", "genzoo.factory", "genzoo.training.trainer", "rich.table", "shortened")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Command:
    """A running command: the part of `subprocess.Popen` that tests use."""

    def __init__(self, args: Sequence[str], connection: socket.socket, stdout: IO[bytes], stderr: IO[bytes]):
        self.args = args
        self.returncode: int | None = None
        self.stdout, self.stderr = stdout, stderr
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """Returns the exit status (negative: the signal that ended it), or None while the command runs."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end.

        Raises:
            subprocess.TimeoutExpired: the command still runs after `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._answers.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def completed(self, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Waits for the end and returns the status with everything that was printed."""
        try:
            status = self.wait(timeout)
        except BaseException:
            self.kill()
            raise
        texts = []
        for file in (self.stdout, self.stderr):
            with file:
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(self.args, status, *texts)


def requested(
    address: str, args: Sequence[str], cwd: str | Path, env: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
) -> Command:
    """Lets the server at an address start `genzoo ARGS` in `cwd`, with an environment and output files of its own."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    payload = json.dumps({"args": list(args), "cwd": str(cwd), "env": dict(env)}).encode()
    socket.send_fds(connection, [len(payload).to_bytes(4, "big")], [stdout.fileno(), stderr.fileno()])
    connection.sendall(payload)
    return Command(["genzoo", *args], connection, stdout, stderr)


class Warm:
    """The client: starts the server, and hands commands to it."""

    def __init__(self, root: Path):
        self._folder = tempfile.TemporaryDirectory(prefix="genzoo-warm-")
        self.address = f"{self._folder.name}/socket"
        command = [sys.executable, __file__, self.address]
        env = os.environ | ONE_THREAD | {"PYTHONPATH": str(root)}
        self._server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, cwd=root)
        while not os.path.exists(self.address):
            if self._server.poll() is not None:
                raise RuntimeError(f"the warm interpreter ended with status {self._server.returncode}")
            time.sleep(0.01)

    def start(
        self, args: Sequence[str], cwd: str | Path | None = None, env: Mapping[str, str] | None = None
    ) -> Command:
        """Starts `genzoo ARGS` in `cwd` with environment `env` (default: this process's)."""
        stdout, stderr = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 (the command closes them)
        env = os.environ if env is None else env
        return requested(self.address, args, cwd or Path.cwd(), env, stdout, stderr)

    def on_two(
        self, args: Sequence[str], cwd: str | Path | None = None, env: Mapping[str, str] | None = None
    ) -> list[Command]:
        """Starts `genzoo ARGS` twice, with the environment that torchrun gives two processes on one machine."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        base = dict(os.environ if env is None else env) | shared
        return [self.start(args, cwd, base | {"RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]

    def close(self) -> None:
        """Stops the server; commands that still run are not waited for."""
        self._server.communicate()  # closes its standard input
        self._folder.cleanup()


def ended(commands: Sequence[Command], timeout: float = 240) -> list[subprocess.CompletedProcess[str]]:
    """Waits for the ends of commands that were started together; kills all of them if one is late."""
    try:
        return [command.completed(timeout) for command in commands]
    except BaseException:
        for command in commands:
            command.kill()
        raise


def next_command(address: str) -> list[str]:
    """Serves requests until standard input closes; returns only in a forked child, with that command's arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps the watchers
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    os.rename(f"{address}.new", address)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests were started with
            return watched(connection)
        connection.close()


def watched(connection: socket.socket) -> list[str]:
    """Forks the command and stays behind to report its pid and its exit status."""
    size, outputs, _, _ = socket.recv_fds(connection, 4, 2)
    request = json.loads(connection.makefile("rb").read(int.from_bytes(size, "big")))
    pid = os.fork()
    if pid:
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    connection.close()
    for output, target, name in zip(outputs, (1, 2), ("stdout", "stderr"), strict=True):
        os.dup2(output, target)
        os.close(output)
        setattr(sys, name, reopened(getattr(sys, name), target))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    become(request["cwd"], request["env"])
    return request["args"]


def reopened(stream: IO[str], target: int) -> IO[str]:
    """A stream like this one on what a file descriptor is now: the old one knows whether the server's could seek."""
    return open(target, "w", 1 if target == 2 else -1, encoding=stream.encoding, errors=stream.errors, closefd=False)


def become(cwd: str, env: dict[str, str]) -> None:
    """Takes over a command's folder and environment, as far as a process that has started can."""
    import torch

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", 0)) or len(os.sched_getaffinity(0)))
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    importlib.invalidate_caches()


class Exit:
    """Ends the process after every other exit handler, without the second that Python takes to tear torch down."""

    status: int | str | None = 1  # of a command that raises

    def __call__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.status if isinstance(self.status, int) else 1)


if __name__ == "__main__":
    end = Exit()
    atexit.register(end)  # the first to be registered is the last to be called
    for name in IMPORTS:
        importlib.import_module(name)
    sys.path.remove(str(Path(__file__).parent))
    for name in pkgutil.iter_modules(importlib.import_module("genzoo.models").__path__):
        if name.ispkg:
            importlib.import_module(f"genzoo.models.{name.name}.objective")
    gc.collect()
    gc.freeze()  # children neither copy nor collect what was imported
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads: a fork would copy only one of them"
    sys.argv = ["genzoo", *next_command(sys.argv[1])]
    try:
        if sys.argv[1:2] == ["-c"]:
            exec(sys.argv[2], {"__name__": "__main__"})
            end.status = 0
        else:
            end.status = importlib.import_module("genzoo.cli").main()
    except SystemExit as error:  # argparse's, after --help
        end.status = error.code or 0

"""A family of tasks for tests, and the options of replicas that know it: it answers in several frames, waits, fails and dies."""

from pathlib import Path

from engine.replicas.blocks import Task
from engine.replicas.replica import ReplicaOptions

# Python imports this file when it starts, if it finds it. It lets a replica find more families.
SITE = """
import os, engine.tasks
engine.tasks.__path__.append(os.environ["TEST_FAMILIES"])
"""
FAMILY = """
import os, resource, signal, socket, threading
from engine.tasks.stopping import Stopping


def tasks(families):
    stopping = families.the(Stopping)

    def count(header, payload):
        for number in range(header["parts"]):
            yield {"number": number}, [payload or bytes(header["part_bytes"])]
        if header.get("end") == "raise":
            raise LookupError("after the parts")
        if header.get("end") == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"parts": [{"size": 5, "count": header["parts"]}]}, [b"last\\n"]

    def tell(header, payload):
        # How far it is, and then what `pass_gate` does, or a death.
        for number in range(header["steps"]):
            yield {"progress": {"Done": number}}, []
        if header.get("end") == "die" and not os.path.exists(header["mark"]):
            open(header["mark"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if "gate" in header:
            open(header["gate"]).read()
        return {"parts": [{"size": 0, "text": "told"}]}, []

    def swap(header, payload):
        half = len(payload) // 2
        return {"parts": [{"size": len(payload)}]}, [payload[half:], payload[:half]]

    def look(header, payload):
        here = {name: os.environ.get(name) for name in header["names"]}
        return {"parts": [{"size": 0, "environment": here, "niceness": os.nice(0)}]}, []

    def wait(header, payload):
        open(header["mark"], "a").write("begun\\n")
        woken = threading.Event()
        with stopping.hearing():
            stopping.interrupt_with(woken.set)
            while True:
                (woken if header["hears"] else threading.Event()).wait(3600)
                stopping.check()

    def once(header, payload):
        # The first time, a signal that was meant for other work stops this.
        try:
            open(header["mark"], "x").close()
        except FileExistsError:
            return {"parts": [{"size": 0}]}, []
        with stopping.hearing():
            os.kill(os.getpid(), signal.SIGUSR1)
            while True:
                stopping.check()

    def early(header, payload):
        # The first time, the signal comes before the work that it is meant for hears of signals.
        try:
            open(header["mark"], "x").close()
        except FileExistsError:
            return {"parts": [{"size": 0}]}, []
        os.kill(os.getpid(), signal.SIGUSR1)
        while not stopping.is_asked:
            threading.Event().wait(0.001)
        with stopping.hearing():
            threading.Event().wait(3600)

    def deaf(header, payload):
        # A library that does not know of the first two interrupts, because no call of it had begun.
        interrupts, woken = [], threading.Event()

        def interrupt():
            interrupts.append(1)
            if len(interrupts) == 3:
                woken.set()

        open(header["mark"], "a").write("begun\\n")
        with stopping.hearing():
            stopping.interrupt_with(interrupt)
            woken.wait(3600)
            stopping.check()

    def raising(header, payload):
        # A library whose first interrupt fails, such as that of a connection that is being closed.
        interrupts, woken = [], threading.Event()

        def interrupt():
            interrupts.append(1)
            if len(interrupts) == 1:
                raise RuntimeError("the connection is closed")
            woken.set()

        open(header["mark"], "a").write("begun\\n")
        with stopping.hearing():
            stopping.interrupt_with(interrupt)
            woken.wait(3600)
            stopping.check()

    def die(header, payload):
        os.kill(os.getpid(), signal.SIGSEGV)

    def fail(header, payload):
        raise LookupError("a bug")

    def pass_gate(header, payload):
        # The test opens the gate, a FIFO, by writing into it.
        open(header["mark"], "a").write("begun\\n")
        text = open(header["gate"]).read()
        return {"parts": [{"size": 0, "text": text}]}, []

    def grow(header, payload):
        taken = bytearray(header["bytes"])
        return {"parts": [{"size": 0, "taken": len(taken)}]}, []

    kept = []

    def keep(header, payload):
        kept.append(b"x" * header["bytes"])
        return {"parts": [{"size": 0}]}, []

    def connect(header, payload):
        said = {}
        for name, call in {
            "connect": lambda: socket.create_connection(("127.0.0.1", header["port"])),
            "name": lambda: socket.getaddrinfo("localhost", 80),
        }.items():
            try:
                call()
                said[name] = "done"
            except OSError as error:
                said[name] = type(error).__name__
        return {"parts": [{"size": 0, "core": resource.getrlimit(resource.RLIMIT_CORE)[0], **said}]}, []

    tasks = (count, tell, swap, look, wait, once, early, deaf, raising, die, fail, pass_gate, grow, keep, connect)
    return {task.__name__: task for task in tasks}
"""


def options(folder: Path) -> ReplicaOptions:
    """Options of replicas that know the family `testing`, whose files are written into this folder."""
    (folder / "families" / "testing").mkdir(parents=True, exist_ok=True)
    (folder / "families" / "testing" / "__init__.py").write_text(FAMILY)
    (folder / "sitecustomize.py").write_text(SITE)
    environment = {"PYTHONPATH": str(folder), "TEST_FAMILIES": str(folder / "families"), "KNOWN_ONLY_HERE": "yes"}
    return ReplicaOptions(niceness=3, environment=environment, families=("testing",))


def task(name: str, *, max_deaths: int = 1, time_limit_s: float = 30, memory_bytes: int = 0) -> Task:
    return Task(name, family="testing", pool="test", time_limit_s=time_limit_s, max_deaths=max_deaths, memory_bytes=memory_bytes)

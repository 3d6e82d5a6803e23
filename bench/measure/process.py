"""Running a program under observation."""
import math
import os
import subprocess
import threading
import time

PATIENCE = 900  # seconds of silence after which a run counts as hung

MEMORY_PERIOD = 0.002
# What is the monitor's own. The guest's memory is a shared mapping and counts as RssShmem; so is
# other memory that is mapped twice, translated code for example, which counts as "shared".
MEMORY_FIELDS = ("RssAnon", "RssFile", "VmPTE")
SHARED_PERIOD = 5
GUEST_MEMORY = ("guest-memory", "memory-backend-memfd")


class Failed(Exception):
    """A run that did not end as it should. Where it began, `run` is what is known of it."""
    run = None


def processor_clock(pid):
    """The clock of all processor time that a process has used (Linux,
    include/linux/posix-timers.h: MAKE_PROCESS_CPUCLOCK with CPUCLOCK_SCHED)."""
    return (~pid << 3) | 2


def processor_time(clock):
    try:
        return time.clock_gettime(clock)
    except OSError:  # the process has ended, and its clock with it
        return math.nan


def children_of(pid):
    """The processes that a monitor runs user code of its guest in, or none."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                found += map(int, f.read().split())
    except OSError:  # it has ended, or the kernel does not tell
        pass
    return found


def family_time(pid):
    """Processor time of a process and those of its children that are there."""
    times = [processor_time(processor_clock(p)) for p in children_of(pid)]
    return processor_time(processor_clock(pid)) + sum(t for t in times if not math.isnan(t))


def tree_time(root):
    """Processor time of a process and all its descendants, those it waited for too, in steps of a
    clock tick: of programs that are more than one process."""
    children, used = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as f:
                # Behind the program's name, which may hold anything: state, parent, ..., utime,
                # stime, and the same of waited-for children (proc(5), fields 14 to 17).
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        used[int(name)] = sum(map(int, fields[11:15]))
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += used.get(pid, 0)
        todo += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


class Mark:
    """A moment of a run: seconds since its start, and seconds that processors spent on it."""

    def __init__(self, text, elapsed, processor):
        self.text = text
        self.elapsed = elapsed
        self.processor = processor


class Watchdog(threading.Thread):
    """Kills a process that has been silent for too long."""

    def __init__(self, process, patience):
        super().__init__(daemon=True)
        self.process, self.patience, self.bitten = process, patience, False
        self.heard, self.done = threading.Event(), False

    def run(self):
        while not self.done:
            if not self.heard.wait(self.patience) and not self.done:
                self.bitten = True
                self.process.kill()
                return
            self.heard.clear()

    def stop(self):
        self.done = True
        self.heard.set()


def shared_memory(pid):
    """KiB of shared memory that is not the guest's, however often it is mapped."""
    total, counts = 0, False
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0] and len(words) > 1 and len(words[1]) == 4:
                name = " ".join(words[5:])
                counts = (name.startswith(("/memfd:", "/dev/zero"))
                          and not any(g in name for g in GUEST_MEMORY))
            elif counts and words[0] == "Pss:":
                total += int(words[1])
    return total


def own_memory(pid):
    """KiB that a process holds itself."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            fields = dict(line.split(":", 1) for line in status)
    except OSError:
        return 0
    return sum(int(fields[f].split()[0]) for f in MEMORY_FIELDS if f in fields)


class MemorySampler(threading.Thread):
    """The peak of what a process holds resident itself, in KiB."""

    def __init__(self, pid, period):
        super().__init__(daemon=True)
        self.period = period
        self.pid = pid
        self.path = f"/proc/{pid}/status"
        self.peak = {"total": 0}
        self.done = threading.Event()

    def run(self):
        shared, looked, others = 0, -math.inf, 0
        while not self.done.wait(self.period):
            try:
                if time.monotonic() - looked >= SHARED_PERIOD:
                    shared, looked = shared_memory(self.pid), time.monotonic()
                    others = sum(map(own_memory, children_of(self.pid)))
                with open(self.path, encoding="ascii", errors="replace") as status:
                    fields = dict(line.split(":", 1) for line in status)
            except (OSError, ValueError):
                return
            # A process that has ended, and waits to be asked how, has none of these.
            now = {f: int(fields[f].split()[0]) for f in MEMORY_FIELDS if f in fields}
            now["shared"] = shared + others
            total = sum(now.values())
            if total > self.peak["total"]:
                self.peak = {"total": total, **now}


class Run:
    """A finished run: its end, marks at lines of its output, the rest of what was asked for."""

    def __init__(self, command, marks=(), sample_memory=False, statuses=(0,), tree=False,
                 memory_period=MEMORY_PERIOD, patience=PATIENCE, on_mark=None):
        """tree: marks count the processor time of all the program's processes. on_mark is called
        with the text of each mark."""
        self.tree, self.on_mark = tree, on_mark
        self.marks = []
        self.memory = None
        start = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, errors="replace")
        self.watchdog = Watchdog(process, patience)
        self.watchdog.start()
        sampler = MemorySampler(process.pid, memory_period) if sample_memory else None
        if sampler:
            sampler.start()
        errors = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True)
        reader.start()
        tail = self._watch(process, marks, start)
        reader.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.end = Mark("end", time.monotonic() - start, usage.ru_utime + usage.ru_stime)
        self.watchdog.stop()
        if sampler:
            sampler.done.set()
            sampler.join()
            self.memory = sampler.peak
        self.errors = errors[0]
        if process.returncode not in statuses:
            how = (f"was silent for {patience} s" if self.watchdog.bitten
                   else f"ended with status {process.returncode}")
            failed = Failed(f"{command[0]} {how}:\n" + "".join(tail[-5:]) + self.errors)
            failed.run = self
            raise failed

    def _watch(self, process, marks, start):
        tail = []
        for line in process.stdout:
            self.watchdog.heard.set()
            tail = tail[-20:] + [line]
            for text in marks:
                # Terminals' escape sequences may come before what a guest prints first.
                at = line.find(text)
                if at >= 0:
                    used = (tree_time if self.tree else family_time)(process.pid)
                    self.marks.append(Mark(line[at:].strip(), time.monotonic() - start, used))
                    if self.on_mark:
                        self.on_mark(self.marks[-1].text)
        return tail

    def mark(self, text):
        for m in self.marks:
            if m.text.startswith(text):
                return m
        raise Failed(f"{text!r} was never printed")

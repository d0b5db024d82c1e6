"""The script that `program.py` starts: it confines itself, then runs a program. Standard library only.

Standard input is one JSON object: {"code", "cpu_seconds", "memory_bytes", "file_bytes", "processes", "readable",
"packages", "scratch", "report", "secret"}; what happened goes to descriptor "report" as JSON lines. There are three
processes: this one adopts the orphans; the second is the first in its own process namespace, so that all others die
with it; the third gives up all rights and runs the program. Numbers below are those of the Linux kernel's headers.
"""

import builtins
import contextlib
import ctypes
import json
import os
import platform
import resource
import signal
import stat
import struct
import sys
import traceback

NOBODY = 65534
CONFINEMENT_FAILED = 70
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 8, 22, 36, 38
CAPABILITY_VERSION, CAP_DAC_READ_SEARCH = 0x20080522, 2
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14
# File rights that each version of Landlock knows; all of them are removed.
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}

# Not allowed to a program: sockets (the network, and daemons behind Unix sockets), other processes' memory, namespaces
# and mounts, keys, kernel modules, and io_uring, which could do the same without system calls.
DENIED: dict[str, dict] = {
    "x86_64": {
        "audit": 0xC000003E,
        "numbers": (
            41, 101, 155, 161, 165, 166, 175, 246, 248, 249, 250, 272, 298, 304, 308, 310, 311, 313, 321, 323, 425, 438,
        ),
    },
    "aarch64": {
        "audit": 0xC00000B7,
        "numbers": (
            198, 117, 41, 51, 40, 39, 105, 104, 217, 218, 219, 97, 241, 265, 268, 270, 271, 273, 280, 282, 425, 438,
        ),
    },
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: object) -> None:
    values = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    check(libc.prctl(option, *values), f"prctl {option}")


def landlock_version() -> int:
    """The version of Landlock this kernel offers, 0 for none."""
    return max(0, libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def make_ruleset(rights: int, allowed: list[tuple[str, int]], network: int = 0) -> int:
    """A descriptor of rules that remove the `rights` to files, except for the paths in `allowed`.

    They also remove the rights `network`, and signals to processes outside. Raises OSError.
    """
    version = landlock_version()
    rights &= FILE_RIGHTS[max(1, min(version, max(FILE_RIGHTS)))]
    network = network if version >= 4 else 0
    scope = 3 if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("QQQ", rights, network, scope)
    ruleset = check(
        libc.syscall(LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)), "Landlock"
    )
    try:
        for path, access in allowed:
            _allow(ruleset, path, access & rights)
    except OSError:
        os.close(ruleset)
        raise
    return ruleset


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a path that cannot be opened here need not be allowed
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
        rule = struct.pack("=Qi", access, descriptor)
        arguments = ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0)
        check(libc.syscall(LANDLOCK_ADD_RULE, *arguments), "Landlock")
    finally:
        os.close(descriptor)


def restrict_self(ruleset: int) -> None:
    """Apply the rules to this process and everything that it starts. Raises OSError."""
    check(libc.syscall(LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "Landlock")


def drop_capabilities(numbers: tuple[int, ...]) -> None:
    """Give up the powers of root. With no_new_privs they cannot be regained. Raises OSError."""
    header = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(24)
    check(libc.capget(header, data), "capget")
    words = list(struct.unpack("6I", data.raw[:24]))
    for number in numbers:
        for kind in range(3):
            words[3 * (number // 32) + kind] &= ~(1 << number % 32)
    check(libc.capset(header, ctypes.create_string_buffer(struct.pack("6I", *words))), "capset")


def deny_files(readable: list[str], scratch: str) -> None:
    """Allow reading in `readable` and everything in `scratch`; no other files, and no signals to the outside."""
    rights = FILE_RIGHTS[max(FILE_RIGHTS)]
    allowed = [(path, READ_FILE | READ_DIR) for path in readable]
    allowed += [(scratch, rights & ~EXECUTE), ("/dev/null", READ_FILE | WRITE_FILE), ("/dev/urandom", READ_FILE)]
    ruleset = make_ruleset(rights, allowed, network=3)
    restrict_self(ruleset)
    os.close(ruleset)


def deny_system_calls() -> None:
    """Make the calls in DENIED fail with EPERM, by a seccomp filter."""
    known = DENIED[platform.machine()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000
    numbers = known["numbers"]
    program = [(load, 0, 0, 4), (equal, 1, 0, known["audit"]), (give, 0, 0, kill), (load, 0, 0, 0)]
    # the other numbering of the same calls on x86
    program += [(at_least, 0, 1, 0x40000000), (give, 0, 0, kill)]
    program += [(equal, len(numbers) - place, 0, number) for place, number in enumerate(numbers)]
    program += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    prctl(PR_SET_SECCOMP, 2, header)


def leave_namespaces() -> bool:
    """Move to empty namespaces of network and processes; returns whether this machine permits it."""
    own = 0 if os.geteuid() == 0 else CLONE_NEWUSER
    return libc.unshare(own | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWPID) == 0


def become_nobody(may_read_all: bool) -> None:
    """Change from root to nobody. `may_read_all` keeps the power to read all files (Python itself may be in root's
    home),
    for machines where Landlock will then restrict reading to a few folders.
    """
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    prctl(PR_SET_KEEPCAPS, int(may_read_all))
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if may_read_all:
        kept = 1 << CAP_DAC_READ_SEARCH
        header = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION, 0))
        data = ctypes.create_string_buffer(struct.pack("6I", kept, kept, 0, 0, 0, 0))
        if libc.capset(header, data) < 0:  # this container does not let us keep this right, so give up everything
            data = ctypes.create_string_buffer(struct.pack("6I", 0, 0, 0, 0, 0, 0))
            check(libc.capset(header, data), "capset")


def give_up_everything(job: dict) -> None:
    """Apply limits, an unprivileged user, file rules and call filters, in this order: each needs rights that the next
    removes.
    """
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    limits = {
        resource.RLIMIT_CPU: job["cpu_seconds"],  # the signal at the soft limit distinguishes this from other ends
        resource.RLIMIT_AS: job["memory_bytes"],
        resource.RLIMIT_FSIZE: job["file_bytes"],
        resource.RLIMIT_NPROC: job["processes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    if os.geteuid() == 0:
        become_nobody(may_read_all=landlock_version() > 0)
    if not os.access(os.path.dirname(os.__file__), os.R_OK | os.X_OK, effective_ids=True):
        raise OSError("the user nobody cannot read Python's library")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    os.chdir(job["scratch"])
    if landlock_version():
        deny_files(job["readable"], job["scratch"])
    deny_system_calls()
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value + (limit == resource.RLIMIT_CPU)))


def send(job: dict, report: dict) -> None:
    os.write(job["report"], json.dumps({**report, "secret": job["secret"]}).encode() + b"\n")


def run_program(job: dict) -> None:
    """Run the program and report. It passes only if it reaches its end, not if it exits earlier."""
    report = {"outcome": "failed", "reason": "exited before it finished"}
    with contextlib.suppress(SystemExit):
        try:
            scope = {"__name__": "__main__", "__builtins__": builtins}
            exec(compile(job["code"], "<program>", "exec"), scope)
            report = {"outcome": "passed", "reason": ""}
        except SystemExit:
            raise
        except BaseException as error:
            text = " ".join(str(error).split())[:300]
            report["reason"] = f"{type(error).__name__}: {text}".rstrip(": ")
            with contextlib.suppress(BaseException):
                traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    send(job, report)


def confined(job: dict) -> None:
    """The third process: confined, then run; never returns."""
    try:
        give_up_everything(job)
    except BaseException as error:
        send(job, {"outcome": "unconfined", "reason": str(error)[:300]})
        os._exit(CONFINEMENT_FAILED)
    run_program(job)
    os._exit(0)


def wait_for(process: int) -> int:
    """Reap everything until `process` ends; its status as the kernel reports it."""
    while True:
        ended, status = os.wait()
        if ended == process:
            return status


def end_orphans() -> None:
    """Kill the processes that the program left; without a process namespace, this process has adopted them."""
    listing = f"/proc/self/task/{os.getpid()}/children"
    while os.path.exists(listing):
        with open(listing) as file:
            children = [int(number) for number in file.read().split()]
        if not children:
            return
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    os.environ.clear()
    os.environ.update(PATH="/usr/bin:/bin", HOME=job["scratch"], TMPDIR=job["scratch"], LANG="C.UTF-8")
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.extend(job["packages"])
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    leave_namespaces()
    first = os.fork()
    if first:
        wait_for(first)
        end_orphans()
        os._exit(0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    program = os.fork()
    if program == 0:
        confined(job)
    status = wait_for(program)
    if os.WIFSIGNALED(status):
        send(job, {"outcome": "killed", "signal": os.WTERMSIG(status)})
    os._exit(0)


if __name__ == "__main__":
    main()

"""The filter of system calls for code in the sandbox: a program of classic BPF, built here and applied in `jail`.

Denied with EPERM: to start processes or threads, to run programs, to open sockets, to signal or look into other
processes, and what changes namespaces and mounts or is a usual way into the kernel. So there is no fork bomb, whoever
the user is (a limit on processes does not bind root), and no network even where there is no network namespace.
"""

import platform
import struct

# By machine: the constant that the kernel tells the architecture by, and the calls' numbers.
_CALLS = {
    "x86_64": {
        "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "socket": 41, "kill": 62, "ptrace": 101, "pivot_root": 155,
        "chroot": 161, "mount": 165, "umount2": 166, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129,
        "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    },
    "aarch64": {
        "clone": 220, "execve": 221, "socket": 198, "kill": 129, "ptrace": 117, "pivot_root": 41, "chroot": 51,
        "mount": 40, "umount2": 39, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "add_key": 217,
        "request_key": 218, "keyctl": 219, "unshare": 97, "perf_event_open": 241, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "execveat": 281, "userfaultfd": 282,
    },
}  # fmt: skip
_EVERYWHERE = {"pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430}
_EVERYWHERE |= {"pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438, "mount_setattr": 442}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL, _ALLOW, _EPERM = 0x80000000, 0x7FFF0000, 0x00050001
_X32 = 0x40000000  # calls from here on are the same ones by other numbers


def denied(machine: str) -> dict[str, int]:
    """The calls that are denied on a machine, with their numbers; empty where the numbers are not known."""
    calls = _CALLS.get(machine)
    return {} if calls is None else {**calls, **_EVERYWHERE}


def filter_program(machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`; empty on a machine whose calls are not known."""
    machine = machine or platform.machine()
    numbers = sorted(denied(machine).values())
    if not numbers:
        return b""
    end = len(numbers) + 1  # instructions from the first comparison to the refusal, less one
    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, end, 0, _X32),
        *((_EQUAL, end - 1 - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EPERM),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)

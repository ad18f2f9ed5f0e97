"""The inside of the sandbox: a script of its own, without any other module of this project.

It reads a request from its standard input (see `run`), shuts itself in, runs the code and writes a verdict to the file
whose descriptor the request names. Three processes with namespaces, one without:

    this one          makes the namespaces: users, mounts, processes, network, IPC, host name
    └── process 1     makes the root: a file system in memory with the few folders of the request, to read only
        └── the code  without capabilities, under limits and the filter of system calls

When process 1 ends, the kernel ends whatever else is in its namespace. The verdict is trusted as far as the code does
not forge it on purpose: tests and code share an interpreter, as in every harness of HumanEval.
"""

import base64
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_ST_RELATIME, _MS_RELATIME = 4096, 1 << 21
_KEPT_FLAGS = 1 | 2 | 4 | 8 | 1024 | 2048  # those with the same value in statvfs as in mount
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_CAPABILITY_VERSION = 0x20080522
_BASE = "/tmp"  # noqa: S108 - it is in every system, and is only mounted over here
_CANNOT = 121  # exit code: the sandbox could not be made
_MAX_VERDICT = 4096  # bytes

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> None:
    """A function of the C library; raises OSError where it fails."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount something."""
    encode = [None if each is None else each.encode() for each in (source, target, kind)]
    call("mount", *encode, ctypes.c_ulong(flags), None if options is None else options.encode())


def bind(source: str, target: str, device: bool = False) -> None:
    """Show a folder, a file or a device at another place, to read only."""
    mount(source, target, None, _MS_BIND | _MS_REC)
    has = os.statvfs(target).f_flag
    flags = has & _KEPT_FLAGS | (_MS_RELATIME if has & _ST_RELATIME else 0) | (0 if device else _MS_NODEV)
    mount("none", target, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | flags)


def new_namespaces() -> None:
    """Leave the machine's; the user stays the same outside and is an ordinary one inside."""
    user, group = os.geteuid(), os.getegid()
    call("unshare", _NAMESPACES)
    for name, content in (("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)


def new_root(request: dict[str, Any]) -> None:
    """A root in memory with the request's folders, an empty one to work in, and nothing else: no /proc, no /home."""
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    mount("tmpfs", _BASE, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    os.mkdir(f"{_BASE}/old")
    call("pivot_root", _BASE.encode(), f"{_BASE}/old".encode())
    os.chdir("/")
    os.mkdir("/tmp")  # noqa: S108
    mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={request['files_mb']}m,mode=777,nr_inodes=4096")  # noqa: S108
    linked = {place for _, place in request["links"]}
    for target, place in request["links"]:
        os.symlink(target, place)
    for source, place in request["places"]:
        if place not in linked:
            os.makedirs(place, exist_ok=True)
            bind(f"/old{source}", place)
    os.mkdir("/dev")
    with open("/dev/null", "w"):
        pass
    bind("/old/dev/null", "/dev/null", device=True)
    call("umount2", b"/old", _MNT_DETACH)
    os.rmdir("/old")
    mount("none", "/", None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir("/tmp")  # noqa: S108


def shut_in(request: dict[str, Any], namespaces: bool) -> None:
    """Limits, no capabilities, and the filter of system calls; nothing of it can be taken back."""
    mb = 1 << 20
    limits = {
        resource.RLIMIT_CPU: request["cpu_s"],
        resource.RLIMIT_AS: request["memory_mb"] * mb,
        resource.RLIMIT_FSIZE: request["files_mb"] * mb if namespaces else _MAX_VERDICT,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))
    if namespaces:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        call("capset", header, (ctypes.c_uint32 * 6)())
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if program := base64.b64decode(request["filter"]):
        buffer = ctypes.create_string_buffer(program, len(program))
        describe = type(
            "sock_fprog", (ctypes.Structure,), {"_fields_": [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]}
        )
        call("prctl", _PR_SET_SECCOMP, 2, ctypes.byref(describe(len(program) // 8, ctypes.addressof(buffer))), 0, 0)


def execute(request: dict[str, Any], verdict: int) -> NoReturn:
    """Run the request's sources one after the other in one namespace, each compiled by itself."""
    sys.path[:] = [each for each in sys.path if each != os.path.dirname(os.path.abspath(__file__))]
    sys.path += request["packages"]
    said = {"passed": False, "reason": ""}
    try:
        names: dict[str, Any] = {"__name__": "answer"}
        for source in request["sources"]:
            exec(compile(source, "<answer>", "exec", dont_inherit=True), names)  # noqa: S102 - what it is for
        said["passed"] = True
    except BaseException as error:
        try:
            said["reason"] = f"{type(error).__name__}: {error}"[:200]
        except BaseException:
            said["reason"] = "an exception that has no text"
    os.pwrite(verdict, json.dumps({**said, "token": request["token"]}).encode()[:2048], 0)
    os._exit(0)


def wait(child: int) -> int:
    """A child's exit code, 128 and the signal where a signal ended it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def die_with_parent() -> None:
    """End when the process that started this one ends."""
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """One request."""
    die_with_parent()
    request = json.loads(sys.stdin.buffer.read())
    verdict: int = request["verdict"]
    null = os.open("/dev/null", os.O_RDWR)
    for each in (0, 1, 2):
        os.dup2(null, each)
    os.environ.clear()
    os.environ.update({"HOME": "/tmp", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})  # noqa: S108
    if not request["namespaces"]:
        shut_in(request, namespaces=False)
        execute(request, verdict)
    try:
        new_namespaces()
        first = os.fork()
        if first == 0:
            die_with_parent()
            new_root(request)
            second = os.fork()
            if second == 0:
                shut_in(request, namespaces=True)
                execute(request, verdict)
            os._exit(wait(second))
    except OSError as error:
        os.pwrite(verdict, json.dumps({"cannot": str(error), "token": request["token"]}).encode(), 0)
        os._exit(_CANNOT)
    os._exit(wait(first))


if __name__ == "__main__":
    main()

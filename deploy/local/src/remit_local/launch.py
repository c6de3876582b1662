"""Turn this process into another program that dies with its parent and has no root rights.

Run as a script: `python -I -S launch.py SIGNAL PARENT USER PROGRAM [ARGUMENT ..]`. USER is `same`, `mapped` (root is
nobody inside a user namespace and still owns its files) or `UID:GID`.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_NOBODY = 65534


def main(arguments: list[str]) -> None:
    """Drop rights, bind this process's life to its parent's, and become the program named by the arguments."""
    death_signal, parent, user, *command = arguments
    # Python ignores SIGPIPE and SIGXFSZ, and ignored signals survive exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if user == "mapped":
        _enter_namespace()
    elif user != "same":
        _become(*(int(number) for number in user.split(":")))
    if sys.platform == "linux":
        # After the change of user, which would clear it.
        _call("prctl", _PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent was gone before its child started")
    os.execvp(command[0], command)  # noqa: S606 the whole purpose


def _enter_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {gid} 1")


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name} failed: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Runs a program that may not use io_uring, as containers with a default seccomp profile have it.

    deny_io_uring.py PROGRAM [ARGUMENT...]

The filter lets io_uring_setup fail with EPERM and allows all other calls; see seccomp(2).
"""

import ctypes
import os
import struct
import sys

IO_URING_SETUP = 425  # the same on x86-64 and aarch64
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
RET_ALLOW, RET_EPERM = 0x7FFF0000, 0x00050000 | 1


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def deny() -> None:
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LOAD_WORD, 0, 0, 0),  # the number of the call
            (JUMP_EQUAL, 0, 1, IO_URING_SETUP),
            (RETURN, 0, 0, RET_EPERM),
            (RETURN, 0, 0, RET_ALLOW),
        )
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 or (
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) != 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    deny()
    os.execv(sys.argv[1], sys.argv[1:])

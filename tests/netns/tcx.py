# SPDX-License-Identifier: BSD-3-Clause
"""The eBPF programs at a device's tcx hooks: which there are, and one more; by bpf(2)."""
import contextlib
import ctypes
import errno
import os
import platform
import struct

HOOKS = {"ingress": 46, "egress": 47}  # enum bpf_attach_type, Linux 6.6

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _GET_FD_BY_ID, _GET_INFO, _PROG_QUERY = 5, 8, 9, 13, 15, 16
_PROG_TYPE_SCHED_CLS = 3
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[platform.machine()]
_ATTR_LEN = 128
_MAX_CNT = 64  # of one hook: BPF_MPROG_MAX
_INFO_LEN, _INFO_ID_AT, _INFO_NAME_AT, _NAME_LEN = 80, 4, 64, 16  # struct bpf_prog_info

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(cmd, attr):
    """attr: a buffer of _ATTR_LEN bytes, which the kernel may write to."""
    ret = _libc.syscall(_SYS_BPF, cmd, attr, _ATTR_LEN)
    if ret < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))
    return ret


def _attr(fmt, *values):
    return ctypes.create_string_buffer(struct.pack("=" + fmt, *values), _ATTR_LEN)


def _ids(ifindex, hook):
    ids = (ctypes.c_uint32 * _MAX_CNT)()
    attr = _attr("IIIIQI", ifindex, HOOKS[hook], 0, 0, ctypes.addressof(ids), _MAX_CNT)
    try:
        _bpf(_PROG_QUERY, attr)
    except OSError as e:
        if e.errno == errno.ENOENT:
            return []
        raise
    return list(ids[:struct.unpack_from("=I", attr, 24)[0]])


def _name(prog_id):
    fd = _bpf(_GET_FD_BY_ID, _attr("I", prog_id))
    try:
        info = ctypes.create_string_buffer(_INFO_LEN)
        _bpf(_GET_INFO, _attr("IIQ", fd, _INFO_LEN, ctypes.addressof(info)))
    finally:
        os.close(fd)
    return info.raw[_INFO_NAME_AT:_INFO_NAME_AT + _NAME_LEN].rstrip(b"\0").decode()


def _index(dev):
    return ctypes.CDLL(None).if_nametoindex(dev.encode())


def programs(ns, hook, dev="eth0"):
    """Return: [(name, id)] in the order in which they run; none where there is no such device.
    One that goes meanwhile is left out."""
    found = []
    with ns.inside():
        ifindex = _index(dev)
        for i in _ids(ifindex, hook) if ifindex else []:
            with contextlib.suppress(FileNotFoundError):
                found.append((_name(i), i))
    return found


NEXT, PASS = -1, 0  # TCX_NEXT, TCX_PASS
_F_BEFORE = 8


def attach(ns, hook, name, dev="eth0", verdict=NEXT, first=False):
    """Attaches a program that leaves everything to the next one, or to the kernel, behind all others
    or ahead of them; it stays until its device goes. Return: its id."""
    # r0 = verdict; exit
    code = ctypes.create_string_buffer(struct.pack("=BBhi", 0xb7, 0, 0, verdict)
                                       + struct.pack("=BBhi", 0x95, 0, 0, 0), 16)
    licence = ctypes.create_string_buffer(b"Dual BSD/GPL")
    fd = _bpf(_PROG_LOAD, _attr("IIQQIIQII16s", _PROG_TYPE_SCHED_CLS, 2, ctypes.addressof(code),
                                ctypes.addressof(licence), 0, 0, 0, 0, 0, name.encode()))
    try:
        with ns.inside():
            _bpf(_PROG_ATTACH, _attr("IIII", _index(dev), fd, HOOKS[hook], _F_BEFORE * first))
        info = ctypes.create_string_buffer(_INFO_LEN)
        _bpf(_GET_INFO, _attr("IIQ", fd, _INFO_LEN, ctypes.addressof(info)))
    finally:
        os.close(fd)
    return struct.unpack_from("=I", info, _INFO_ID_AT)[0]


def detach(ns, hook, prog_id, dev="eth0"):
    fd = _bpf(_GET_FD_BY_ID, _attr("I", prog_id))
    try:
        with ns.inside():
            _bpf(_PROG_DETACH, _attr("III", _index(dev), fd, HOOKS[hook]))
    finally:
        os.close(fd)

# SPDX-License-Identifier: BSD-3-Clause
"""libtcpcrypt for tests: the shared library that was built, through ctypes."""
import ctypes
import errno
import functools
import os

from lab import binary

SESSID_LEN, TIMEOUT_MS = 33, 2000
OPENING, ENCRYPTED, CLEAR, CLOSING = range(4)
ROLE_NONE, ROLE_A, ROLE_B = range(3)
PREFER, REQUIRE, OFF = range(3)
AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 1, 2, 16
ENABLE, CMODE, SESSID, APP_SUPPORT, RESET, NOCACHE = 0, 1, 2, 15, 100, 101
IPPROTO_TCP = 6


class Info(ctypes.Structure):
    _fields_ = [("state", ctypes.c_int), ("role", ctypes.c_int), ("inbound", ctypes.c_int),
                ("authenticated", ctypes.c_int), ("app_aware", ctypes.c_int),
                ("peer_app_aware", ctypes.c_int), ("tx_bytes", ctypes.c_uint64),
                ("rx_bytes", ctypes.c_uint64), ("sessid_len", ctypes.c_size_t),
                ("sessid", ctypes.c_ubyte * SESSID_LEN), ("reason_", ctypes.c_char * 32),
                ("tep_", ctypes.c_char * 40), ("aead_", ctypes.c_char * 32)]

    @property
    def id(self):
        return bytes(self.sessid)[:self.sessid_len]

    @property
    def reason(self):
        return self.reason_.decode()

    @property
    def aead(self):
        return self.aead_.decode()


def folder():
    """Of the build; its programs are in it."""
    return os.path.dirname(binary())


@functools.cache
def _library():
    lib = ctypes.CDLL(os.path.join(folder(), "ctl", "lib", "libtcpcrypt.so.0"), use_errno=True)
    lib.tcpcrypt_getsessid.restype = ctypes.c_char_p
    return lib


class Error(OSError):
    """errno by name in its text."""

    def __str__(self):
        return errno.errorcode.get(self.errno, str(self.errno))


def call(name, *args):
    """Calls tcpcrypt_NAME; raises on failure. Sockets give their descriptors."""
    result = getattr(_library(), "tcpcrypt_" + name)(
        *(a.fileno() if hasattr(a, "fileno") else a for a in args))
    if result == -1 or result is None:
        raise Error(ctypes.get_errno(), name)
    return result


def fails(name, *args):
    """Return: the name of the errno with which the call fails; "" when it does not."""
    try:
        call(name, *args)
    except Error as e:
        return str(e)
    return ""


def info(sock):
    i = Info()
    call("get_info", sock, ctypes.byref(i), ctypes.sizeof(i))
    return i


def wait(sock, ms=5000):
    return call("wait", sock, ms)


def getsockopt(sock, option, length):
    value, got = ctypes.create_string_buffer(length), ctypes.c_uint32(length)
    call("getsockopt", sock, IPPROTO_TCP, option, value, ctypes.byref(got))
    return value.raw[:got.value]


def setsockopt(sock, option, value):
    v = ctypes.c_int(value)
    call("setsockopt", sock, IPPROTO_TCP, option, ctypes.byref(v), 4)


def set_aeads(sock, *aeads):
    call("set_aeads", sock, (ctypes.c_int * len(aeads))(*aeads), ctypes.c_size_t(len(aeads)))


def getsessid(remote, port, local=None, local_port=0):
    encode = lambda a: a.encode() if a else None  # noqa: E731
    return call("getsessid", encode(remote), port, encode(local), local_port).decode()


def set_ctl(place):
    call("set_ctl", place.encode() if place else None)

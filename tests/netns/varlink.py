# SPDX-License-Identifier: BSD-3-Clause
"""A Varlink interface description, and whether replies are as it says (varlink.org)."""
import os
import re

from lab import TOP, expect

TOKEN = re.compile(r"->|\[string\]|\[\]|[A-Za-z][\w.]*|[(),:?]")
BASIC = {"bool": bool, "int": int, "float": (int, float), "string": str, "object": dict}


class Interface:
    def __init__(self, path="docs/org.tcpcrypt.Ns1.varlink"):
        with open(os.path.join(TOP, path)) as f:
            text = re.sub(r"#.*", "", f.read())
        self.tokens = TOKEN.findall(text)
        self.types, self.replies, self.errors = {}, {}, {}
        expect(self._next() == "interface", "begins with its name")
        self.name = self._next()
        while self.tokens:
            self._member()

    def _next(self):
        return self.tokens.pop(0)

    def _member(self):
        kind, name = self._next(), self._next()
        if kind == "type":
            self.types[name] = self._type()
        elif kind == "error":
            self.errors[name] = self._type()
        else:
            expect(kind == "method", "type, method or error", kind, name)
            self._type()
            expect(self._next() == "->", "a reply", name)
            self.replies[name] = self._type()

    def _type(self):
        token = self._next()
        if token in ("?", "[]", "[string]"):
            return (token, self._type())
        return self._struct() if token == "(" else token

    def _struct(self):
        """Or an enum, whose members have no types."""
        members = {}
        while (name := self._next()) != ")":
            if name != ",":
                has_type = self.tokens[0] == ":"
                if has_type:
                    self._next()
                members[name] = self._type() if has_type else None
        return members

    def check(self, value, kind, where="$"):
        """Failure when the value is not of the type, or has members that the type has not."""
        if isinstance(kind, dict):
            expect(isinstance(value, dict), f"{where}: an object", value)
            expect(not value.keys() - kind.keys(), f"{where}: not described",
                   value.keys() - kind.keys())
            for name, of in kind.items():
                expect(name in value or of[0] == "?", f"{where}: {name} is missing", value)
                if name in value:
                    self.check(value[name], of, f"{where}.{name}")
        elif kind in BASIC:
            good = isinstance(value, BASIC[kind]) and (kind == "bool" or value is not True and
                                                       value is not False)
            expect(good, f"{where}: no {kind}", value)
        elif kind[0] == "?":
            if value is not None:
                self.check(value, kind[1], where)
        elif kind[0] == "[]":
            for i, one in enumerate(value):
                self.check(one, kind[1], f"{where}[{i}]")
        elif kind[0] == "[string]":
            for name, one in value.items():
                self.check(one, kind[1], f"{where}.{name}")
        else:
            self.check(value, self.types[kind], where)

    def check_reply(self, method, parameters):
        self.check(parameters, self.replies[method], method)

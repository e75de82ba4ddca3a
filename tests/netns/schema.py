# SPDX-License-Identifier: BSD-3-Clause
"""JSON Schema, as far as docs/*.schema.json use it; a test fails on any other keyword."""
import json
import os
import re

from lab import TOP, expect

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
         "boolean": bool}
NOTES = {"$schema", "title", "description"}


def load(name):
    """Return: docs/NAME.schema.json."""
    with open(os.path.join(TOP, f"docs/{name}.schema.json")) as f:
        return json.load(f)


def _is_type(value, name):
    return isinstance(value, TYPES[name]) and isinstance(value, bool) == (name == "boolean")


def _resolve(ref):
    """"NAME.schema.json#/path/to/it", a file in docs/."""
    name, path = ref.split("#")
    rule = load(name.removesuffix(".schema.json"))
    for part in path.strip("/").split("/"):
        rule = rule[part]
    return rule


def _no_others(value, rule, where):
    others = value.keys() - rule["properties"].keys()
    expect(not others, f"{where}: not described", others)


def validate(value, rule, where="$", strict=False):
    """Return: true; Failure else. strict: objects have no members that are not described."""
    if strict and "properties" in rule and isinstance(value, dict):
        _no_others(value, rule, where)
    for word, arg in rule.items():
        if word in NOTES:
            continue
        ok = {
            "$ref": lambda: validate(value, _resolve(arg), where, strict),
            "const": lambda: value == arg,
            "enum": lambda: value in arg,
            "type": lambda: _is_type(value, arg),
            "minimum": lambda: value >= arg,
            "maximum": lambda: value <= arg,
            "pattern": lambda: re.search(arg, value),
            "required": lambda: all(k in value for k in arg),
            "properties": lambda: all(validate(value[k], r, f"{where}.{k}", strict)
                                      for k, r in arg.items() if k in value),
            "additionalProperties": lambda: arg or not value.keys() - rule["properties"].keys(),
            "items": lambda: all(validate(v, arg, f"{where}[{i}]", strict)
                                 for i, v in enumerate(value)),
        }[word]()
        expect(ok, f"{where}: {word}", value, arg)
    return True

#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes the man page and the shell completions from the table of verbs and options.

usage: docs/cli-pages.py TABLE.json {man TEMPLATE | bash | zsh | fish}

How it works: ctl/cli/cli_export.c prints the table (ctl/cli/cli_table.c) as JSON; the
result goes to standard output. In the man page's template these lines are
replaced:

    .\\" @SYNOPSIS@      all verbs with their operands
    .\\" @OPTIONS VERB@  the list of the verb's options
    .\\" @VERBS@         a section for each verb that has none in the template

What an option's argument completes to follows from its "values" in the table,
else from the argument's name: words in lower case with | between are the values,
FILE is a file, IF an interface, NAME|PATH|PID|self a namespace.
"""
import json
import re
import sys

PROGRAM = "tcpcrypt-ns"
NETNS = "NAME|PATH|PID|self"


def words_of(option):
    """Return: what the argument can be, as far as the table says it."""
    if option["values"]:
        return option["values"].split(", ")
    arg = option["arg"] or ""
    return arg.split("|") if re.fullmatch(r"[a-z-]+(\|[a-z-]+)*", arg) else []


def kind_of(option):
    """Return: "" (no argument), "words", "list", "netns", "file", "if" or "any"."""
    arg = option["arg"]
    if not arg:
        return ""
    if words_of(option):
        return "list" if "[," in arg else "words"
    if arg == NETNS:
        return "netns"
    if arg.startswith(("FILE", "PATH")):
        return "file"
    return "if" if arg == "IF" else "any"


def first_line(text):
    return re.split(r"[;:] |\n", text)[0].strip().rstrip(";:,")


# --- Man page -----------------------------------------------------------------


def roff(text):
    """Return: running text as mdoc lines, a sentence each."""
    text = text.replace("\\", "\\e").replace("--", "\\-\\-")
    text = re.sub(r"\s*\n\s*", " ", text)
    lines = re.sub(r"(?<=[a-z0-9)\"]\.) (?=[A-Z\"])", "\n", text).split("\n")
    return "\n".join("\\&" + line if line[:1] in ".'" else line for line in lines) + "\n"


def sentence(text):
    """Return: a help text, which has no capital and no stop, as a sentence."""
    if not re.match(r"[a-z]+:", text):
        text = text[0].upper() + text[1:]
    return text + "."


def man_operands(operands):
    out = []
    for word in re.findall(r"\[[^]]*\]|\S+", operands or ""):
        if word.startswith("["):
            out.append(f".Op Ar {word[1:-1].lower().replace('...', ' ...')}")
        elif word == "--":
            out.append(".Cm --")
        else:
            out.append(f".Ar {word.lower()}")
    return "".join(f"{line}\n" for line in out)


def man_synopsis(verbs):
    out = ""
    for v in verbs:
        out += f".Nm\n.Cm {v['name']}\n"
        if len(v["options"]) > 1:
            out += ".Op Ar options\n"
        out += man_operands(v["operands"])
    return out


def said_before(verbs, verb, option):
    """Return: the name of the verb before this one that has the same option; None."""
    for v in verbs:
        if v is verb:
            return None
        if option in v["options"]:
            return v["name"]
    return None


def man_option(verbs, verb, option):
    letter = f"Fl {option['letter']} , " if option["letter"] else ""
    arg = f" Ar {option['arg']}" if option["arg"] else ""
    text = sentence(option["help"])
    before = said_before(verbs, verb, option)
    if before and option["more"]:
        text += f" More is said under {before}."
    elif option["more"]:
        text += " " + option["more"] + "."
    return f".It {letter}Fl -{option['name']}{arg}\n{roff(text)}"


def man_options(verbs, verb):
    own = [o for o in verb["options"] if o["name"] != "help"]
    if not own:
        return ""
    items = "".join(man_option(verbs, verb, o) for o in own)
    return f".Bl -tag -width Ds\n{items}.El\n"


def man_verb(verbs, verb):
    text = verb["help"] or sentence(verb["summary"])
    return f".Ss {verb['name']}\n{roff(text)}{man_options(verbs, verb)}"


def man(verbs, path):
    with open(path, encoding="utf-8") as f:
        template = f.read()
    order = re.findall(r'^\.\\" @OPTIONS (\S+)@$', template, re.M)
    by_name = {v["name"]: v for v in verbs}
    for name in order:
        if name not in by_name:
            sys.exit(f"{path}: there is no verb {name}")
    # In the order of the page, so that "under up" points backwards.
    others = [v for v in verbs if v["name"] not in order]
    page = [by_name[name] for name in order] + others
    out = []
    for line in template.splitlines(keepends=True):
        m = re.fullmatch(r'\.\\" @(SYNOPSIS|VERBS|OPTIONS (\S+))@\n', line)
        if not m:
            out.append(line)
        elif m[2]:
            out.append(man_options(page, by_name[m[2]]))
        elif m[1] == "SYNOPSIS":
            out.append(man_synopsis(verbs))
        else:
            out += [man_verb(page, v) for v in others]
    return "".join(out)


# --- bash -----------------------------------------------------------------------

BASH = r"""# bash completion for tcpcrypt-ns; made from its table of options. -*- shell-script -*-

# Words that begin with $cur; after a comma in it when they make a list.
_tcpcrypt_ns_words() {
    local IFS=$' \t\n'
    COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_tcpcrypt_ns_list() {
    local IFS=$' \t\n' before=
    [[ $cur != *,* ]] || before=${cur%,*},
    COMPREPLY=($(compgen -P "$before" -W "$1" -- "${cur##*,}"))
}

_tcpcrypt_ns_netns() {
    local IFS=$' \t\n' names
    names=$(ip netns list 2>/dev/null | cut -d ' ' -f 1)
    COMPREPLY=($(compgen -W "self $names" -- "$cur"))
    [[ $cur != */* ]] || _tcpcrypt_ns_files
}

_tcpcrypt_ns_files() {
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
}

# Everything behind "exec --": another command's line.
_tcpcrypt_ns_command() {
    if [[ $COMP_CWORD -gt $1 ]] && declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif [[ $COMP_CWORD -gt $1 ]]; then
        _tcpcrypt_ns_files
    else
        COMPREPLY=($(compgen -c -- "$cur"))
    fi
}

_tcpcrypt_ns() {
    local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} i
    local prev=${COMP_WORDS[COMP_CWORD - 1]}

    COMPREPLY=()
    if [[ ${COMP_WORDS[0]##*/} == tcnetstat ]]; then
        COMP_WORDS=(tcpcrypt-ns tcnetstat "${COMP_WORDS[@]:1}")
        COMP_CWORD=$((COMP_CWORD + 1))
        verb=tcnetstat
    fi
    if [[ $COMP_CWORD -eq 1 ]]; then
        _tcpcrypt_ns_words '@VERBS@ help --help --version'
        return
    fi
    if [[ $verb == help ]]; then
        _tcpcrypt_ns_words '@VERBS@'
        return
    fi
    if [[ $verb == exec ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            [[ ${COMP_WORDS[i]} != -- ]] || { _tcpcrypt_ns_command $((i + 1)); return; }
        done
    fi
    # bash makes --option=value three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = && $COMP_CWORD -gt 2 ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $verb:$prev in
@VALUES@    esac
    case $verb in
@OPTIONS@    esac
}

complete -F _tcpcrypt_ns tcpcrypt-ns tcnetstat
"""


def flags(option):
    return ([f"-{option['letter']}"] if option["letter"] else []) + [f"--{option['name']}"]


def bash_action(option):
    kind = kind_of(option)
    if kind in ("words", "list"):
        return f"_tcpcrypt_ns_{kind} '{' '.join(words_of(option))}'"
    return {"netns": "_tcpcrypt_ns_netns", "file": "_tcpcrypt_ns_files",
            "if": '_tcpcrypt_ns_words "$(cd /sys/class/net && echo *)"', "any": ":"}[kind]


def bash(verbs):
    values, options = {}, ""
    for v in verbs:
        for o in v["options"]:
            if o["arg"]:
                values.setdefault(bash_action(o), []).extend(f"{v['name']}:{f}" for f in flags(o))
        own = " ".join(f"--{o['name']}" for o in v["options"])
        options += f"    {v['name']})\n        _tcpcrypt_ns_words '{own}'\n        ;;\n"
    cases = "".join(f"    {' | '.join(c)})\n        {a}\n        return\n        ;;\n"
                    for a, c in values.items())
    return (BASH.replace("@VERBS@", " ".join(v["name"] for v in verbs))
            .replace("@VALUES@", cases).replace("@OPTIONS@", options))


# --- zsh ------------------------------------------------------------------------

ZSH = r"""#compdef tcpcrypt-ns tcnetstat
# zsh completion for tcpcrypt-ns; made from its table of options.

_tcpcrypt-ns_netns() {
    local -a names
    names=(self ${(f)"$(ip netns list 2>/dev/null | cut -d ' ' -f 1)"})
    compadd -a names
    [[ $PREFIX != */* ]] || _files
}

_tcpcrypt-ns() {
    local -a verbs
    verbs=(
@VERBS@    )

    if [[ $service == tcnetstat ]]; then
        words=(tcpcrypt-ns tcnetstat "${(@)words[2,-1]}")
        (( CURRENT++ ))
    fi
    if (( CURRENT == 2 )) || [[ $words[2] == help && $CURRENT -eq 3 ]]; then
        _describe -t verbs verb verbs
        return
    fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
@CASES@    esac
}

_tcpcrypt-ns "$@"
"""


def zsh_quote(text):
    return re.sub(r"([\[\]:])", r"\\\1", text.replace("\\", "\\\\")).replace("'", "'\\''")


def zsh_action(option):
    kind = kind_of(option)
    if kind == "words":
        return f"({' '.join(words_of(option))})"
    if kind == "list":
        return f"_values -s , value {' '.join(words_of(option))}"
    return {"netns": "_tcpcrypt-ns_netns", "file": "_files", "if": "_net_interfaces",
            "any": " "}[kind]


def zsh_option(option):
    text = f"[{zsh_quote(first_line(option['help']))}]"
    if option["arg"]:
        text += f":{zsh_quote(option['arg'])}:{zsh_action(option)}"
    names = [f + ("+" if len(f) == 2 else "=") if option["arg"] else f for f in flags(option)]
    if len(names) == 1:
        return f"'{names[0]}{text}'"
    return f"'({' '.join(flags(option))})'{{{','.join(names)}}}'{text}'"


def zsh_operands(verb):
    if verb["name"] == "exec":
        return ["'(-)1:command:_command_names -e'", "'*::argument:_normal'"]
    return ["'*:operand: '"] if verb["operands"] else []


def zsh(verbs):
    described = "".join(f"        '{zsh_quote(v['name'])}:{zsh_quote(v['summary'])}'\n"
                        for v in verbs)
    cases = ""
    for v in verbs:
        specs = [zsh_option(o) for o in v["options"]] + zsh_operands(v)
        lines = " \\\n".join(f"            {s}" for s in specs)
        cases += f"    {v['name']})\n        _arguments -s -S \\\n{lines}\n        ;;\n"
    return ZSH.replace("@VERBS@", described).replace("@CASES@", cases)


# --- fish -----------------------------------------------------------------------

FISH = r"""# fish completion for tcpcrypt-ns; made from its table of options.

function __tcpcrypt_ns_verb_is
    set -l words (commandline -opc)
    if string match -q '*tcnetstat' -- $words[1]
        test "$argv[1]" = tcnetstat
    else
        test "$words[2]" = "$argv[1]"
    end
end

function __tcpcrypt_ns_needs_verb
    set -l words (commandline -opc)
    not string match -q '*tcnetstat' -- $words[1]; and test (count $words) -eq 1
end

function __tcpcrypt_ns_list
    set -l before (string replace -r '[^,]*$' '' -- (commandline -ct | string replace -r '^--[^=]*=' ''))
    printf '%s\n' $before$argv
end

function __tcpcrypt_ns_netns
    printf '%s\n' self (ip netns list 2>/dev/null | string replace -r ' .*' '')
    set -l token (commandline -ct)
    string match -q '*/*' -- $token; and __fish_complete_path $token
end

complete -c tcpcrypt-ns -f
complete -c tcnetstat -w 'tcpcrypt-ns' -f
complete -c tcpcrypt-ns -n __tcpcrypt_ns_needs_verb -l help -d 'print the verbs'
complete -c tcpcrypt-ns -n __tcpcrypt_ns_needs_verb -l version -d 'print the version'
complete -c tcpcrypt-ns -n '__tcpcrypt_ns_verb_is exec' -x -a '(__fish_complete_subcommand --fcs-skip=2)'
"""


def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_argument(option):
    kind = kind_of(option)
    if kind == "file":
        return " -r -F"
    words = {"words": " ".join(words_of(option)),
             "list": f"(__tcpcrypt_ns_list {' '.join(words_of(option))})",
             "netns": "(__tcpcrypt_ns_netns)",
             "if": "(command ls /sys/class/net)"}.get(kind)
    return " -x" + (f" -a {fish_quote(words)}" if words else "")


def fish(verbs):
    out = FISH
    names = " ".join(v["name"] for v in verbs)
    out += f"complete -c tcpcrypt-ns -n '__tcpcrypt_ns_verb_is help' -x -a '{names}'\n"
    for v in verbs:
        out += (f"\ncomplete -c tcpcrypt-ns -n __tcpcrypt_ns_needs_verb -x -a {v['name']} "
                f"-d {fish_quote(v['summary'])}\n")
        for o in v["options"]:
            letter = f" -s {o['letter']}" if o["letter"] else ""
            out += (f"complete -c tcpcrypt-ns -n '__tcpcrypt_ns_verb_is {v['name']}'{letter} "
                    f"-l {o['name']}{fish_argument(o) if o['arg'] else ''} "
                    f"-d {fish_quote(first_line(o['help']))}\n")
    return out


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ("man", "bash", "zsh", "fish"):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        verbs = json.load(f)
    make = {"man": man, "bash": bash, "zsh": zsh, "fish": fish}[sys.argv[2]]
    sys.stdout.write(make(verbs, *sys.argv[3:]))


if __name__ == "__main__":
    main()

"""What callgrind counted, per request: by crate, by function, and who calls the functions that cost most.

callgrind_annotate splits a function by the files that its inlined lines come from; this adds them up.
"""

import re
import sys
from collections import defaultdict

TOP = 60
# Whose callers are shown: much of them is many calls of little.
CALLEES = [
    "__memcpy", "__memmove", "__memset", "^malloc$", "^free$", "^realloc$", r"Timespec>::now$", r"HeaderMap<T>::",
    r"Registration::poll_ready$", r"core::fmt::write$",
]


class Profile:
    def __init__(self, path):
        self.own, self.whole, self.files = defaultdict(int), defaultdict(int), defaultdict(int)
        self.calls = defaultdict(lambda: [0, 0])
        names = {}

        def name(kind, text):
            """Callgrind writes a name once, and its number from then on."""
            number, said = re.match(r"(\(\d+\))?(?: ?(.*))?$", text).groups()
            if number and said:
                names[kind, number] = said
            return names[kind, number] if number else said

        function = file = callee = None
        for line in open(path, errors="replace"):
            line = line.rstrip("\n")
            key, _, value = line.partition("=")
            if key == "fn":
                function = name("function", value)
            elif key in ("fl", "fi", "fe"):
                file = name("file", value)
            elif key == "cfn":
                callee = name("function", value)
            elif key in ("cfi", "cfl"):
                name("file", value)
            elif key == "calls":
                count = int(value.split()[0])
            elif re.match(r"[0-9+*-]", line):
                cost = int((line.split() + ["0"])[1])
                if callee:
                    if callee != function:
                        self.whole[function] += cost
                    self.calls[function, callee][0] += count
                    self.calls[function, callee][1] += cost
                    callee = None
                else:
                    for table, at in ((self.own, function), (self.whole, function), (self.files, file)):
                        table[at] += cost
        self.total = sum(self.own.values())


def crate(file):
    if found := re.search(r"/registry/src/[^/]+/(.+?)-\d+\.[^/]*/", file):
        return found[1]
    if found := re.search(r"/library/(std|core|alloc)/", file):
        return found[1]
    if found := re.search(r"(?:^|/)(src/[a-z_]+(?:/[a-z_0-9]+)?)", file):
        return "pilotlight " + found[1]
    return "libc" if re.search(r"malloc|string|sysdeps|nptl|\.[Sc]$", file) else file


def short(function):
    function = re.sub(r"'\d+$", "", function)
    return function if len(function) <= 150 else function[:149] + "…"


def main():
    profile, requests = Profile(sys.argv[1]), int(sys.argv[2])
    print(f"{profile.total / requests:,.0f} instructions per request")

    def table(title, rows):
        print(f"\n{title}\n\n| instructions/request | share | |\n|---|---|---|")
        for what, cost in sorted(rows.items(), key=lambda row: -row[1])[:TOP]:
            if cost / requests >= 1:
                print(f"| {cost / requests:,.0f} | {cost / profile.total:.1%} | `{short(what)}` |")

    crates = defaultdict(int)
    for file, cost in profile.files.items():
        crates[crate(file)] += cost
    table("By crate; inlined lines count where they were written", crates)
    table("By function, itself", profile.own)
    table("By function, with what it calls", profile.whole)
    print("\nCallers\n\n| calls/request | instructions/request | of | from |\n|---|---|---|---|")
    for wanted in CALLEES:
        found = [(calls, cost, callee, caller) for (caller, callee), (calls, cost) in profile.calls.items()
                 if re.search(wanted, callee) and not re.search(wanted, caller) and calls / requests > 0.05]
        for calls, cost, callee, caller in sorted(found, key=lambda row: -row[1])[:20]:
            print(f"| {calls / requests:.2f} | {cost / requests:,.0f} | `{short(callee)}` | `{short(caller)}` |")


main()

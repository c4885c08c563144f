#!/usr/bin/python3
"""Lists what ctest's tests have skipped, whole tests and parts of them, with the reasons.

    list_skips.py ALLOWED RESULTS.xml...

RESULTS are of ctest --output-junit. With CI set in the environment, exit code 1 if a skip is not in ALLOWED, whose lines
are: a pattern of test names, and words that the reason contains.
"""

import fnmatch
import os
import re
import sys
import xml.etree.ElementTree as tree

# A test's own line, doctest's MESSAGE and unittest's verbose line.
REASON = re.compile(r"""skipped:? +['"]?(\S.*?)['"]?$""", re.MULTILINE)


def read_skips(path):
    """The pairs of test and reason."""
    skips = []
    for test in tree.parse(path).getroot().iter("testcase"):
        output = "".join(test.itertext())
        reasons = [" ".join(reason.split()) for reason in REASON.findall(output)]
        if test.get("status") in ("notrun", "disabled") and not reasons:
            skips.append((test.get("name"), "no reason given"))
        skips += [(test.get("name"), reason) for reason in dict.fromkeys(reasons)]
    return skips


def read_allowed(path):
    with open(path, encoding="utf-8") as file:
        lines = [line.split(maxsplit=1) for line in file if line.strip() and not line.startswith("#")]
    return [(pattern, words.strip()) for pattern, words in lines]


def main():
    allowed = read_allowed(sys.argv[1])
    skips = list(dict.fromkeys(skip for path in sys.argv[2:] for skip in read_skips(path)))
    surprises = 0
    print(f"skipped: {len(skips)}")
    for name, reason in skips:
        is_allowed = any(fnmatch.fnmatchcase(name, pattern) and words in reason for pattern, words in allowed)
        surprises += not is_allowed
        print(f"  {name}: {reason}" + ("" if is_allowed else f"  (not in {sys.argv[1]})"))
    if surprises and os.environ.get("CI"):
        print(f"list_skips.py: error: {surprises} skips that nobody allowed; what they need is missing here", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

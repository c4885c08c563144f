"""Recordings: named lists of numbers, one a line; settings first, then what the reference found with them."""

SETTING = "setting."
# Between two runs of the reference in double precision, on other machines and with other numbers of threads.
TOLERANCE = 1e-6
ROUNDING = 1e-13  # double precision leaves this of a gradient that cancels to nothing


def number(text):
    return int(text) if text.lstrip("-").isdigit() else float(text)


def read(path):
    """Settings by name, results by name."""
    lines = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    settings = {name.removeprefix(SETTING): number(value) for name, value, *_ in lines if name.startswith(SETTING)}
    results = {name: [float(value) for value in values] for name, *values in lines if not name.startswith(SETTING)}
    return settings, results


def write(path, settings, results):
    with path.open("w") as file:
        file.write("# A recording; the README of this folder explains it.\n")
        for name, value in settings.items():
            file.write(f"{SETTING}{name} {value}\n")
        for name, values in results.items():
            file.write(f"{name} {' '.join(f'{value:.9g}' for value in values)}\n")


def differences(expected, found):
    """What differs between two dictionaries of results, as lines of text."""
    for name in sorted(expected.keys() ^ found.keys()):
        yield f"{name} stands in one only"
    for name in expected.keys() & found.keys():
        scale = max(abs(value) for value in expected[name])
        largest = max(abs(a - b) for a, b in zip(expected[name], found[name], strict=True))
        if not largest <= TOLERANCE * scale + ROUNDING:
            yield f"{name}: {largest:.3g} apart, numbers of size {scale:.3g}"

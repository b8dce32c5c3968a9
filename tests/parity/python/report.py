"""How the checks speak: a line for each, and exit code 1 when one of them failed."""
import sys

failures = 0


def check(what, holds, detail=""):
    global failures
    failures += not holds
    print(f"{'ok    ' if holds else 'FAILED'} {what}{f': {detail}' if detail else ''}", flush=True)


def finish():
    sys.exit(1 if failures else 0)

"""A job that runs the Python code of its one argument, forked or not."""

import sys

if __name__ == "__main__":
    exec(compile(sys.argv[1], "<job>", "exec"), {"__name__": "job"})

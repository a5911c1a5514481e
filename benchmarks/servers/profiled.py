"""Run a module under cProfile: ``python -m benchmarks.servers.profiled FILE PYTHON -m MODULE ...``.

Only the first thread is profiled, and only between the signals, so that the start of a service stays out.
"""

from __future__ import annotations

import cProfile
import runpy
import signal
import sys

BEGIN, END = signal.SIGUSR1, signal.SIGUSR2


def main() -> None:
    """Run the module with the arguments after its name; at the signal END, write the statistics to FILE."""
    file, _python, _option, module, *arguments = sys.argv[1:]
    profile = cProfile.Profile()

    def end(_number: int, _frame: object) -> None:
        profile.disable()
        profile.dump_stats(file)

    signal.signal(BEGIN, lambda _number, _frame: profile.enable())
    signal.signal(END, end)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""The command `understudy`, and `python -m understudy`: whatever stops it, one line says how to go on.

The signals are taken care of before anything is loaded, for loading is most of what a short command does.
"""

import contextlib
import signal
import sys

HOW_TO_GO_ON = "run the same command again and it goes on from here"


class _Stop:
    """The first signal that asked the process to end: Ctrl-C, `kill`, a terminal that was closed."""

    def __init__(self) -> None:
        self.number = signal.SIGINT

    def listen(self) -> None:
        """Turn the signals into `KeyboardInterrupt`; one that is ignored (`nohup`) stays ignored."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._raise)

    def _raise(self, number: int, frame: object) -> None:
        self.number = signal.Signals(number)
        # Those who end a session send several; the first is enough. Ctrl-C may be pressed again, by who cannot wait.
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise KeyboardInterrupt

    def line(self) -> str:
        """What is said of it."""
        what = "interrupted" if self.number == signal.SIGINT else f"stopped by {self.number.name}"
        return f"{what}; {HOW_TO_GO_ON}"


def main() -> None:
    """Entry point: runs the command line and ends with its exit status, or 128 and the number of a signal."""
    stop = _Stop()
    stop.listen()
    try:
        from understudy.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        # The terminal may be gone.
        with contextlib.suppress(OSError, ValueError):
            print(f"\n{stop.line()}", file=sys.stderr, flush=True)
        sys.exit(128 + stop.number)


if __name__ == "__main__":
    main()

"""``python -m trainer.child PARENT MODULE ...``: becomes a module of this Python that ends when its parent does.

The kernel sends the process SIGTERM when the parent is gone, however it ended (SIGKILL and the out-of-memory killer
leave it no time to end its children). The setting survives `exec`, so the module needs to know nothing of it.
Only Linux does that; elsewhere the module keeps running.
"""

import os
import signal
import sys
from collections.abc import Sequence

from serving.private.libc import signal_when_parent_ends


def command_of(arguments: Sequence[str]) -> list[str]:
    """The command line by which this process starts a module, with its arguments, as such a child.

    The thread that starts it counts as the parent: it must live as long as the child may.
    """
    return [sys.executable, "-m", "trainer.child", str(os.getpid()), *arguments]


def main(arguments: Sequence[str]) -> None:
    """Becomes the module.

    Raises:
        SystemExit: the parent is gone already.
    """
    parent, *module = arguments
    signal_when_parent_ends(signal.SIGTERM)
    # It may have ended before the setting took effect.
    if os.getppid() != int(parent):
        raise SystemExit("the process that started this one is gone")
    os.execv(sys.executable, [sys.executable, "-m", *module])


if __name__ == "__main__":
    main(sys.argv[1:])

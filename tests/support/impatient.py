"""One of two processes of a run whose collectives give up after seconds; started by torch.distributed.run."""

import datetime
import sys

import torch

from understudy.cli import main

if __name__ == "__main__":
    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=float(sys.argv.pop(1))))
    main()

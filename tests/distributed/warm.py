"""What every process of a world needs, loaded and compiled once: worlds are forked from whoever imported this."""

import itertools

import torch
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.tensor.parallel

from tests.distributed import checks
from tests.distributed.models import GPT, Llama

torch.set_num_threads(1)  # no thread may be there when it forks
for model, dtype, law in itertools.product((GPT, Llama), (torch.float32, torch.bfloat16), checks.LAWS):
    checks.unsharded(model, dtype, law)

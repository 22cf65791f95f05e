"""GlobalBatch under Accelerate: two processes, and how far they end from one process.

.venv/bin/accelerate launch --multi_gpu --num_processes 2 examples/integrations/with_accelerate.py

With ``--cpu`` in place of ``--multi_gpu`` Accelerate starts several processes only through MPI, and otherwise one.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from small_run import SIZE, SamplesOfClasses, difference_from_one_process, encoder
from torch.optim import SGD
from torch.utils.data import DataLoader

import losses
from losses.distributed import GlobalBatch

STEPS = 2


def main() -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    network = encoder()
    loader = DataLoader(SamplesOfClasses(STEPS * SIZE), batch_size=SIZE // accelerator.num_processes)
    model, optimiser, loader = accelerator.prepare(network, SGD(network.parameters(), lr=0.1), loader)
    loss = GlobalBatch(losses.create("supervised_contrastive"))  # has no parameters, so there is nothing to prepare
    for samples, labels in loader:
        optimiser.zero_grad()
        accelerator.backward(loss(model(samples), labels))
        optimiser.step()
    accelerator.print(f"processes: {accelerator.num_processes}")
    accelerator.print(f"largest difference from one process: {difference_from_one_process(network, STEPS):.1e}")
    accelerator.end_training()


if __name__ == "__main__":
    main()

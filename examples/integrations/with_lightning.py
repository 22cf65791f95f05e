"""GlobalBatch under Lightning's DDP strategy: two processes, and how far they end from one process.

.venv/bin/python examples/integrations/with_lightning.py

Lightning starts the second process itself, and wraps the module into DistributedDataParallel.
"""

from __future__ import annotations

import pytorch_lightning as lightning
import torch
from small_run import SIZE, SamplesOfClasses, difference_from_one_process, encoder
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, DistributedSampler

import losses
from losses.distributed import GlobalBatch

PROCESSES, STEPS = 2, 2


class Embedding(lightning.LightningModule):
    """An encoder with the loss that trains it: one line says that the batch is that of all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: nn.Module = encoder()
        self.loss = GlobalBatch(losses.create("supervised_contrastive"))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        samples, labels = batch
        return self.loss(self.encoder(samples), labels)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        data = SamplesOfClasses(STEPS * SIZE)
        dealt = DistributedSampler(data, self.trainer.world_size, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, batch_size=SIZE // self.trainer.world_size, sampler=dealt)

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=0.1)


def main() -> None:
    torch.set_num_threads(1)
    trainer = lightning.Trainer(
        strategy="ddp",
        accelerator="cpu",
        devices=PROCESSES,
        max_steps=STEPS,
        logger=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,  # Lightning's own would shuffle the samples, and one process draws others
    )
    module = Embedding()
    trainer.fit(module)
    if trainer.is_global_zero:
        print(f"largest difference from one process: {difference_from_one_process(module.encoder, STEPS):.1e}")


if __name__ == "__main__":
    main()

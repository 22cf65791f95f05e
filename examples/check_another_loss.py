"""Run the contract on a loss of another library, and see which of our promises it keeps."""

import torch

import losses
from losses.core.inputs import POINTWISE

torch.set_num_threads(1)
report = losses.check_loss(torch.nn.SmoothL1Loss(), inputs=POINTWISE)
print(report)
print(f"\nbroken: {', '.join(sorted({verdict.clause for verdict in report.failures}))}")

"""Lets torchvision be imported beside a CPU build of torch.

The wheel on the package index is linked against CUDA: its native operators cannot load there, and the import fails
where it looks for their schemas. With these two declared it goes through; nothing of InvokeAI on a CPU calls them.
"""
# mypy: ignore-errors

import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # the declarations live as long as this object


def declare():
    """Call before anything imports torchvision."""
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""Starts the ComfyUI of a folder: `python serve_comfyui.py FOLDER …`; what follows goes to its main.py."""
# mypy: ignore-errors

import runpy
import sys
from pathlib import Path

FOLDER = Path(sys.argv[1])


def declare_operators() -> None:
    """Declare torchvision's operators where its own library does not load beside this torch; none of them is run."""
    import torch

    try:
        import torchvision.extension

        torchvision.extension._assert_has_ops()
    except Exception:  # noqa: BLE001  (whatever the reason is)
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_KEPT"] = library


if __name__ == "__main__":
    sys.argv = [str(FOLDER / "main.py"), *sys.argv[2:]]
    sys.path.insert(0, str(FOLDER))
    declare_operators()
    runpy.run_path(sys.argv[0], run_name="__main__")

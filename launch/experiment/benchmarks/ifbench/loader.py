"""Rows of IFBench: key, prompt, instruction_id_list, kwargs (one object for each instruction)."""

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Hub, Row, Source
from launch.experiment.benchmarks.ifbench.scorer import refusal

SOURCE = Source(
    title="IFBench",
    files=("ifbench.jsonl*", "IFBench_test.jsonl*", "ifbench*.parquet", "train*.parquet"),
    published="IFBench_test.jsonl, rows of key, prompt, instruction_id_list and kwargs",
    hub=Hub("allenai/IFBench_test", split="train"),
)


def question(row: Row) -> Question:
    """A row as a question, asked as it is; refused where no verifier here knows one of its instructions."""
    kinds, arguments = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(kinds, list) or not kinds or not all(isinstance(each, str) for each in kinds):
        row.fail('has no list of instructions under "instruction_id_list"')
    if (
        not isinstance(arguments, list)
        or len(arguments) != len(kinds)
        or not all(isinstance(a, dict) for a in arguments)
    ):
        row.fail('has not one object for each instruction under "kwargs"')
    given = [{name: value for name, value in each.items() if value is not None} for each in arguments]
    prompt = row.text("prompt")
    key = row.get("key")
    detail = {"instructions": kinds, "arguments": given, "prompt": prompt}
    return Question("" if key is None else str(key), prompt, "", kinds[0], detail=detail, refusal=refusal(kinds))

"""The prompt of GSM8K."""


def prompt(question: str) -> str:
    """The problem, and the form of the answer."""
    return (
        f"{question}\n\nWork it out step by step. Then end with one line that has only the number that answers the"
        r" question in a box, without its unit, for example \boxed{7}."
    )

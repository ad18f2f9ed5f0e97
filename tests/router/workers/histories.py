"""Random histories of answers that a prompt reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from router.speculative_prefill.template import PromptTemplate
from router.speculative_prefill.upstream_answer import UpstreamAnswer

SMALL = st.integers(0, 9)  # so few that pieces often begin alike


class Step:
    """What happens to an answer at one moment of a run."""

    def __init__(self, name: str, ids: list[int] | None = None, how: str = "grow") -> None:
        self.name, self.ids, self.how = name, ids, how

    def __repr__(self) -> str:
        return f"{self.name}.{self.how}({self.ids or ''})"

    def happen(self, answer: UpstreamAnswer) -> None:
        """Do it."""
        if self.how == "grow":
            answer.update(self.ids or ())
        else:
            getattr(answer, self.how)()


@dataclass
class History:
    """What happens to the answers of a template.

    Attributes:
        template: The prompt that reads them.
        steps: What happens, in order; answers grow, start again, end, and are dropped as aborted ones are.
        final: The ids that each answer ends with; None when it is dropped.
        ended: Their names in the order in which they end.
    """

    template: PromptTemplate
    steps: list[Step]
    final: dict[str, list[int] | None]
    ended: list[str]

    @property
    def declared(self) -> list[int]:
        """The whole prompt in declared order."""
        return whole(self.template, [self.final[name] for name in self.template.slots])


@st.composite
def histories(draw: st.DrawFn, token: st.SearchStrategy[int] = SMALL, piece: int = 3) -> History:
    """One to four answers; pieces of up to `piece` ids."""
    names = [f"a{i}" for i in range(draw(st.integers(1, 4)))]
    literals = draw(st.lists(st.lists(token, max_size=piece), min_size=len(names) + 1, max_size=len(names) + 1))
    template = PromptTemplate(tuple(map(tuple, literals)), tuple(names))
    lives: list[list[Step]] = []
    final: dict[str, list[int] | None] = {}
    for name in names:
        life: list[Step] = []
        ids: list[int] = []
        for _ in range(draw(st.integers(0, 5))):
            if draw(st.integers(0, 5)) == 0:
                ids = []
                life.append(Step(name, how="restart"))
            ids = [*ids, *draw(st.lists(token, max_size=piece))]
            life.append(Step(name, ids))
        last = draw(st.sampled_from(["finish", "finish", "finish", "drop"]))
        life.append(Step(name, how=last))
        final[name] = None if last == "drop" else ids
        lives.append(life)
    steps: list[Step] = []
    ended: list[str] = []
    while any(lives):
        life = draw(st.sampled_from([life for life in lives if life]))
        step = life.pop(0)
        steps.append(step)
        if not life:
            ended.append(step.name)
    return History(template, steps, final, ended)


def whole(template: PromptTemplate, answers: Sequence[Sequence[int] | None]) -> list[int]:
    """The prompt with the answers in its places; a dropped one (None) goes with what parts it from the others."""
    first, *between, last = template.literals
    kept = [answer for answer in answers if answer is not None]
    found = [*first]
    for answer, separator in zip(kept, [(), *between], strict=False):
        found += [*separator, *answer]
    return [*found, *last]

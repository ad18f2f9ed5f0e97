"""The page of a run: one HTML file that needs nothing else, neither a network nor JavaScript."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from router.timeline import graph as tree
from router.timeline import words
from router.timeline.axis import axis
from router.timeline.critical import critical_path
from router.timeline.facts import of_agent, of_run
from router.timeline.lanes import decision_words, groups
from router.timeline.record import read
from router.timeline.spans import rows

# For the header of an HTTP answer; the page says the same of itself.
CSP = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_templates = Environment(
    loader=PackageLoader("router.timeline"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    CSP=CSP, phases=words.PHASES, of_agent=of_agent, decision_words=decision_words, tree=tree, fit=words.fit
)
_templates.filters.update(
    seconds=words.seconds, count=words.count, score=words.score, share=words.percent, date=words.date
)


def page(run: dict[str, Any]) -> str:
    """The page of a run's trace, as `GET /runs/{id}` answers it; always encodable as UTF-8.

    Raises `BadRequest` when the trace is wrong.
    """
    record = read(run)
    lines = rows(record)
    scale = axis(record, lines)
    path = critical_path(record)
    on_path = {step.agent for step in path}
    html = _templates.get_template("page.html.j2").render(
        run=record,
        facts=of_run(record),
        graph=tree.graph(record, on_path),
        path=path,
        on_path=on_path,
        ticks=scale.ticks(),
        groups=groups(record, lines, scale),
        shown={span.phase for row in lines for span in row.spans},
    )
    # JSON can spell half a surrogate pair, UTF-8 cannot.
    return html.encode("utf-8", "replace").decode()

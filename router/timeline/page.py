"""The page of a run: one self-contained HTML file, without network requests, that also works without JavaScript."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from router.timeline import formatting
from router.timeline import graph as tree
from router.timeline.axis import axis
from router.timeline.critical_path import critical_path
from router.timeline.facts import agent_facts, run_facts
from router.timeline.lanes import decision_tooltip, groups
from router.timeline.record import read_run
from router.timeline.spans import rows

# For the response header; the page has it in a <meta> element too.
CSP = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_templates = Environment(
    loader=PackageLoader("router.timeline"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    CSP=CSP,
    phases=formatting.PHASES,
    agent_facts=agent_facts,
    decision_tooltip=decision_tooltip,
    tree=tree,
    fit=formatting.fit,
)
_templates.filters.update(
    seconds=formatting.seconds,
    count=formatting.count,
    score=formatting.score,
    share=formatting.percent,
    date=formatting.date,
)


def page(run: dict[str, Any]) -> str:
    """The page of a trace, as `GET /runs/{id}` answers it; always encodable as UTF-8.

    Raises:
        BadRequest: The trace is wrong.
    """
    record = read_run(run)
    lines = rows(record)
    scale = axis(record, lines)
    path = critical_path(record)
    on_path = {step.agent for step in path}
    html = _templates.get_template("page.html.j2").render(
        run=record,
        facts=run_facts(record),
        graph=tree.graph(record, on_path),
        path=path,
        on_path=on_path,
        ticks=scale.ticks(),
        groups=groups(record, lines, scale),
        shown={span.phase for row in lines for span in row.spans},
    )
    # JSON can spell half a surrogate pair, UTF-8 cannot.
    return html.encode("utf-8", "replace").decode()

"""The drawing of the tree: layers left to right, clusters as boxes, agents as nodes. All lengths are in pixels."""

from dataclasses import dataclass
from itertools import groupby

from router.timeline.formatting import fit
from router.timeline.record import RunRecord

NODE_WIDTH, NODE_HEIGHT, NODE_GAP = 138, 22, 6
PADDING, TITLE_HEIGHT = 9, 24
BOX_WIDTH = NODE_WIDTH + 2 * PADDING
BOX_GAP, LAYER_GAP = 12, 80
NODE_FONT, TITLE_FONT = 12, 11
NODE_TEXT_WIDTH, TITLE_WIDTH = NODE_WIDTH - 34, BOX_WIDTH - 2 * PADDING - 4


@dataclass(frozen=True)
class Node:
    """An agent; `row` is its index in the trace."""

    x: float
    y: float
    row: int
    label: str
    name: str
    state: str
    critical: bool


@dataclass(frozen=True)
class Box:
    """A cluster."""

    x: float
    y: float
    height: float
    label: str
    name: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Edge:
    """From a cluster to an agent that reads it: an SVG path behind the boxes, and its end over the reader's box."""

    path: str
    stub: str
    critical: bool


@dataclass(frozen=True)
class Graph:
    """The whole drawing."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def graph(record: RunRecord, critical: set[str]) -> Graph:
    """The drawing; `critical` names the agents of the critical path."""
    numbered = sorted(enumerate(record.agents), key=lambda pair: pair[1].layer)
    columns = [list(column) for _, column in groupby(numbered, key=lambda pair: pair[1].layer)]
    stacks = [_stack([pair[1].cluster for pair in column]) for column in columns]
    height = max((_stack_height(stack) for stack in stacks), default=0.0)
    boxes: list[Box] = []
    for layer, (column, stack) in enumerate(zip(columns, stacks, strict=True)):
        x, y = layer * (BOX_WIDTH + LAYER_GAP) + 1.0, (height - _stack_height(stack)) / 2 + 1
        for cluster, members in stack.items():
            nodes = tuple(
                Node(
                    x + PADDING,
                    y + TITLE_HEIGHT + index * (NODE_HEIGHT + NODE_GAP),
                    row,
                    fit(agent.agent, NODE_FONT, NODE_TEXT_WIDTH),
                    agent.agent,
                    agent.state,
                    agent.agent in critical,
                )
                for index, (row, agent) in enumerate(pair for pair in column if pair[1].cluster == cluster)
            )
            boxes.append(Box(x, y, _box_height(members), fit(cluster, TITLE_FONT, TITLE_WIDTH), cluster, nodes))
            y += _box_height(members) + BOX_GAP
    width = max((box.x + BOX_WIDTH for box in boxes), default=0.0) + 1
    return Graph(width, height + 2, tuple(boxes), tuple(_edges(record, boxes, critical)))


def _stack(clusters: list[str]) -> dict[str, int]:
    """The number of agents of each cluster of a layer, in order."""
    return {cluster: clusters.count(cluster) for cluster in clusters}


def _box_height(members: int) -> float:
    return TITLE_HEIGHT + members * (NODE_HEIGHT + NODE_GAP) - NODE_GAP + PADDING


def _stack_height(stack: dict[str, int]) -> float:
    return sum(_box_height(members) + BOX_GAP for members in stack.values()) - BOX_GAP


def _edges(record: RunRecord, boxes: list[Box], critical: set[str]) -> list[Edge]:
    on_path = {box.name for box in boxes if any(node.critical for node in box.nodes)}
    edges: list[Edge] = []
    for box in boxes:
        for node in box.nodes:
            for source in boxes:
                if source.name in record.agents[node.row].reads and source.x < node.x:
                    y = node.y + NODE_HEIGHT / 2
                    path = _curve(source.x + BOX_WIDTH, source.y + source.height / 2, box.x, y)
                    stub = f"M{box.x:g} {y:g}H{node.x:g}"
                    edges.append(Edge(path, stub, node.critical and source.name in on_path))
    return sorted(edges, key=lambda edge: edge.critical)


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x2 - x1) / 2
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"

"""The tree as a drawing: layers left to right, clusters as boxes, agents as nodes. All lengths in pixels."""

from dataclasses import dataclass
from itertools import groupby

from router.timeline.record import Record
from router.timeline.words import fit

NODE_WIDTH, NODE_HEIGHT, NODE_GAP = 138, 22, 6
PAD, TITLE = 9, 24
BOX_WIDTH = NODE_WIDTH + 2 * PAD
BOX_GAP, LAYER_GAP = 12, 80
NODE_FONT, TITLE_FONT = 12, 11
NODE_TEXT_ROOM, TITLE_ROOM = NODE_WIDTH - 34, BOX_WIDTH - 2 * PAD - 4


@dataclass(frozen=True)
class Node:
    """An agent; `row` is its place in the trace."""

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
    """From a cluster to an agent that reads it: an SVG path behind the boxes, and its last piece over the reader's."""

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


def graph(record: Record, critical: set[str]) -> Graph:
    """The drawing; `critical` names the agents of the critical path."""
    numbered = sorted(enumerate(record.agents), key=lambda pair: pair[1].layer)
    columns = [list(column) for _, column in groupby(numbered, key=lambda pair: pair[1].layer)]
    stacks = [_stack([pair[1].cluster for pair in column]) for column in columns]
    height = max((_height(stack) for stack in stacks), default=0.0)
    boxes: list[Box] = []
    for index, (column, stack) in enumerate(zip(columns, stacks, strict=True)):
        x, y = index * (BOX_WIDTH + LAYER_GAP) + 1.0, (height - _height(stack)) / 2 + 1
        for cluster, members in stack.items():
            nodes = tuple(
                Node(
                    x + PAD,
                    y + TITLE + place * (NODE_HEIGHT + NODE_GAP),
                    row,
                    fit(agent.agent, NODE_FONT, NODE_TEXT_ROOM),
                    agent.agent,
                    agent.state,
                    agent.agent in critical,
                )
                for place, (row, agent) in enumerate(pair for pair in column if pair[1].cluster == cluster)
            )
            boxes.append(Box(x, y, _box(members), fit(cluster, TITLE_FONT, TITLE_ROOM), cluster, nodes))
            y += _box(members) + BOX_GAP
    width = max((box.x + BOX_WIDTH for box in boxes), default=0.0) + 1
    return Graph(width, height + 2, tuple(boxes), tuple(_edges(record, boxes, critical)))


def _stack(clusters: list[str]) -> dict[str, int]:
    """How many agents each cluster of a layer has, in order."""
    return {cluster: clusters.count(cluster) for cluster in clusters}


def _box(members: int) -> float:
    return TITLE + members * (NODE_HEIGHT + NODE_GAP) - NODE_GAP + PAD


def _height(stack: dict[str, int]) -> float:
    return sum(_box(members) + BOX_GAP for members in stack.values()) - BOX_GAP


def _edges(record: Record, boxes: list[Box], critical: set[str]) -> list[Edge]:
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

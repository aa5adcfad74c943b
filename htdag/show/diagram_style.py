"""How the parts of a diagram look."""

from __future__ import annotations

# Light tints of the Okabe-Ito colours, which colour-blind people can tell apart, also in grey; the
# shapes and the second line of each box carry the same information.
TEXT = "#1f2933"
QUIET = "#52606d"
SOURCE = {"fillcolor": "#fdf6d8", "color": "#a8901c"}
PER_ITEM = {"fillcolor": "#dcecf8", "color": "#3f7fb0"}
REDUCE = {"fillcolor": "#fbe3cf", "color": "#c26a1b"}
PARTIAL = {"fillcolor": "#fdf1e6", "color": "#c26a1b", "style": "rounded,filled,dashed"}
TARGET = {"peripheries": "2", "penwidth": "1.6"}
FORK = {"shape": "point", "width": "0.06", "color": "#616e7c", "fillcolor": "#616e7c"}
CLUSTER = {
    "style": "rounded,filled",
    "fillcolor": "#f5f7f9",
    "color": "#b8c2cc",
    "fontcolor": QUIET,
    "fontsize": "11",
    "labeljust": "l",
    "margin": "11",
}
GRAPH = {
    "rankdir": "TB",
    "compound": "true",
    "bgcolor": "white",
    "pad": "0.2",
    "nodesep": "0.4",
    "ranksep": "0.36",
    # The renderer for machines without Graphviz knows its widths; in SVG, Graphviz names a generic
    # sans-serif font as the fallback.
    "fontname": "Helvetica",
}
NODE = {
    "shape": "box",
    "style": "rounded,filled",
    "fontname": "Helvetica",
    "fontsize": "12",
    "fontcolor": TEXT,
    "margin": "0.22,0.09",
    "height": "0.4",
    "penwidth": "1.2",
}
EDGE = {
    "color": "#616e7c",
    "penwidth": "1.2",
    "arrowsize": "0.75",
    "fontname": "Helvetica",
    "fontsize": "11",
    "fontcolor": QUIET,
}
BIND = {"style": "dashed", "color": "#00795a", "fontcolor": "#00664c"}
LOOP = {
    **CLUSTER,
    "fillcolor": "#ffffff",
    "color": "#8a5ba6",
    "fontcolor": "#6b3f87",
    "penwidth": "1.5",
    "margin": "16",
}
STATE = {"shape": "box", "style": "filled", "fillcolor": "#efe4f5", "color": "#8a5ba6"}
ROUND = {**STATE, "style": "rounded,filled"}
NEXT_ROUND = {
    "color": "#8a5ba6",
    "fontcolor": "#6b3f87",
    "style": "bold",
    "dir": "back",
}

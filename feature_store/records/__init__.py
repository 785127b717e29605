"""The frozen nouns that every floor of the workbench speaks.

Records cross folders, tensors do not. A record is a value: it is compared by content, changed with
`dataclasses.replace`, and becomes a row of a table (`schema/` gives each column its unit). Each
field is documented beneath it, with its unit and range. One module an idea; all are imported from
here.

Left out on purpose: behaviour. What is done with a record stands where it is done; only geometry
that belongs to the noun itself (the distance of two values on the circle, the name of a steering)
is here.
"""

from feature_store.records.asking import (
    Action,
    Answer,
    Instrument,
    Item,
    Memory,
    Response,
    Status,
    ValueProfile,
)
from feature_store.records.causes import CausalGraph, Edge
from feature_store.records.deciding import Choice, DecisionEffect, Scenario
from feature_store.records.dictionary import Feature, Label, Point, Site
from feature_store.records.effects import SideEffect
from feature_store.records.run import Run, figures, row
from feature_store.records.steering import Combine, Positions, Span, Steering, Unit, Where
from feature_store.records.values import Value, ValueSystem, normalise
from feature_store.records.verdicts import HumanVerdict, VerdictWord

__all__ = [
    "Action",
    "Answer",
    "CausalGraph",
    "Choice",
    "Combine",
    "DecisionEffect",
    "Edge",
    "Feature",
    "HumanVerdict",
    "Instrument",
    "Item",
    "Label",
    "Memory",
    "Point",
    "Positions",
    "Response",
    "Run",
    "Scenario",
    "SideEffect",
    "Site",
    "Span",
    "Status",
    "Steering",
    "Unit",
    "Value",
    "ValueProfile",
    "ValueSystem",
    "VerdictWord",
    "Where",
    "figures",
    "normalise",
    "row",
]

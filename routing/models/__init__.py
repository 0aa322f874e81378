"""The tables of WHERE: the catalog and what was seen of it, prices that wait, and request logs."""

from routing.models.catalog import (
    Catalogued,
    CatalogVersion,
    Endpoint,
    EndpointDay,
    EndpointHour,
    ManagedKey,
    Model,
    PriceProposal,
    PriceSource,
    ProbeDay,
    Provider,
    RollUp,
    Window,
)
from routing.models.request_logs import LogDeletion, RequestLog, RequestLogLoss

__all__ = [
    "CatalogVersion",
    "Catalogued",
    "Endpoint",
    "EndpointDay",
    "EndpointHour",
    "LogDeletion",
    "ManagedKey",
    "Model",
    "PriceProposal",
    "PriceSource",
    "ProbeDay",
    "Provider",
    "RequestLog",
    "RequestLogLoss",
    "RollUp",
    "Window",
]

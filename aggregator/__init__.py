"""The project: wiring only. Nothing in the apps imports it except `aggregator.lib` and the route table."""

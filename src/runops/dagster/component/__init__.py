"""The component for ``defs.yaml``, where ``dg`` looks for it: the entry point names this package."""

from runops.dagster.component.component import RunopsComponent as RunopsComponent

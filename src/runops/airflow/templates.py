"""Which templates a triggerer can render as a worker would. It parses them, and renders nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateError, nodes

from runops.airflow._compat import template_environment

NAMES = frozenset(
    {
        "data_interval_end",
        "data_interval_start",
        "ds",
        "ds_nodash",
        "logical_date",
        "macros",
        "params",
        "run_id",
        "task_instance_key_str",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
        "var",
    }
)
"""Names whose every attribute is there in a triggerer, or can be had from it, with the value that a worker sees."""

_DAG_RUN = {
    "conf",
    "dag_id",
    "data_interval_end",
    "data_interval_start",
    "logical_date",
    "partition_key",
    "run_after",
    "run_id",
}
_TASK_INSTANCE = {"dag_id", "run_id", "task_id"}
PARTS: Mapping[str, Collection[str]] = {
    "dag": {"dag_id"},
    "dag_run": _DAG_RUN,
    "task": {"task_id"},
    "task_instance": _TASK_INSTANCE,
    "ti": _TASK_INSTANCE,
}
"""Names of which only some attributes are. For others, such as ``ti.xcom_pull``, a triggerer's process sends a request
that its supervisor cannot decode and never answers (apache/airflow#55464): such a trigger would hang until its end."""


def environment() -> Environment:
    """The environment that a triggerer renders with, but as strict about what is undefined as a worker's."""
    return template_environment(undefined=StrictUndefined)


def needs_worker(task: Any, fields: Mapping[str, Any]) -> str | None:
    """Why a task must begin on a worker, as the rest of a sentence; None where a triggerer can render its fields.

    What is not known to work there counts as not working: the cost of an error on that side is a worker for a few
    seconds, on the other side a task that fails or hangs.

    :param task: The task.
    :param fields: Its template fields by name, not rendered yet.
    """
    dag = task.get_dag()
    reason = _setting(task, dag)
    if reason is not None:
        return reason
    for name, value in fields.items():
        for text in _texts(value):
            reason = "it is no plain text" if text is None else _text_reason(task, dag, text)
            if reason is not None:
                return f"{name}: {reason}"
    return None


def _setting(task: Any, dag: Any) -> str | None:
    """What of a task or its DAG changes how templates are rendered, or ends a whole triggerer before it renders any."""
    native = getattr(task, "render_template_as_native_obj", None)
    if native or (native is None and dag is not None and dag.render_template_as_native_obj):
        return "render_template_as_native_obj is set"
    if dag is not None and dag.jinja_environment_kwargs:
        return "the DAG has jinja_environment_kwargs"
    if dag is not None and dag.template_undefined is not StrictUndefined:
        return "the DAG has a template_undefined of its own"
    for name, param in task.params.items():
        try:
            param.resolve()
        except Exception:  # noqa: BLE001 - as in a triggerer, which does it without the values of the DAG run
            return f"the param {name} has no valid default, which would end a triggerer"
        # The params of a DAG are checked when its run is made, those of a task only here.
        if param.schema and getattr(param, "source", "dag") != "dag":
            return f"the param {name} is the task's own and has a schema, which could end a triggerer"
    return None


def _texts(value: Any) -> Iterator[str | None]:
    """The texts in a field's value; None for what may render itself, such as another task's output."""
    match value:
        case str():
            yield value if type(value) is str else None
        case dict():
            for entry in value.values():
                yield from _texts(entry)
        case list() | tuple():
            for entry in value:
                yield from _texts(entry)
        case None | bool() | int() | float():
            return
        case _:
            yield None


def _text_reason(task: Any, dag: Any, text: str) -> str | None:
    if text.endswith(tuple(task.template_ext)):
        return f"{text!r} is a template file"
    if "{" not in text:
        return None
    # No DAG processor has loaded it already.
    from jinja2 import meta

    try:
        template = environment().parse(text)
        names = meta.find_undeclared_variables(template)
    except TemplateError as error:
        # A tag, filter or test of the user's own, or an error that a worker reports as it does for any task.
        return f"its template cannot be read without the DAG ({error.message})"
    if next(meta.find_referenced_templates(template), "") != "":
        return "it uses a template file"
    return _name_reason(template, names) or _own_reason(template, dag)


def _name_reason(template: nodes.Template, names: set[str]) -> str | None:
    used = {id(node.node): node for node in template.find_all((nodes.Getattr, nodes.Getitem))}
    for node in template.find_all(nodes.Name):
        if node.name not in names or node.name in NAMES:
            continue
        attribute = _attribute(used.get(id(node)))
        if attribute is None or attribute not in PARTS.get(node.name, ()):
            spelled = node.name if attribute is None else f"{node.name}.{attribute}"
            return f"{spelled} needs a worker"
    return None


def _attribute(node: nodes.Node | None) -> str | None:
    match node:
        case nodes.Getattr():
            return node.attr
        case nodes.Getitem(arg=nodes.Const(value=value)):
            return str(value)
        case _:
            return None


def _own_reason(template: nodes.Template, dag: Any) -> str | None:
    """A macro or filter of the DAG's that takes the place of one of Jinja's."""
    if dag is None:
        return None
    filters = {node.name for node in template.find_all((nodes.Filter, nodes.Test))}
    globals_ = {node.name for node in template.find_all(nodes.Name)} - NAMES - set(PARTS)
    for kind, used, own in (
        ("macro", globals_, dag.user_defined_macros),
        ("filter", filters, dag.user_defined_filters),
    ):
        for name in sorted(used & set(own or ())):
            return f"{name} is a {kind} of the DAG"
    return None

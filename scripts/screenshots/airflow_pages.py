"""Airflow's pages: what each must show, and the pictures of them."""

from __future__ import annotations

from typing import Any

from runops.core import PROVIDERS
from scripts.screenshots.browser import Camera
from scripts.screenshots.world import ANNOUNCEMENT, OLD_KEY, PAUSED, PORTFOLIO, AirflowWorld

FORM_HEIGHT = 700
KEY_FIELDS = {
    "nexio": "API key",
    "nyx": "Verification token",
    "onepin": "API key",
    "b3os": "API key",
    "nekt": "API key",
}


def take(camera: Camera, world: AirflowWorld) -> None:
    """All pictures of Airflow."""
    _connection_forms(camera, world)
    _test_button(camera, world)
    _grid(camera, world)
    _deferred_task(camera, world)
    # From here on Airflow remembers that the grid is narrow.
    _finished_task(camera, world)
    _failed_task(camera, world)
    _many_runs(camera, world)


def _connection_forms(camera: Camera, world: AirflowWorld) -> None:
    for name, provider in PROVIDERS.items():
        form = _new_connection(camera, world, provider.title)
        form.locator("[name=connection_id]").fill(f"{name}_default")
        camera.see("Base URL", KEY_FIELDS[name])
        for hidden in ("Login", "Schema"):
            camera.never(hidden, within=form)
        camera.holds(form.locator("[name=host]"), "placeholder", provider.base_url)
        camera.holds(form.locator("[name=password]"), "type", "password")
        camera.shoot(f"airflow_connection_{name}", height=FORM_HEIGHT)
    form = _new_connection(camera, world, PROVIDERS["b3os"].title)
    form.locator("[name=connection_id]").fill("b3os_default")
    form.get_by_text("Extra Fields", exact=True).click()
    labels = ("Organisation id", "Request timeout (s)", "Requests per minute", "Largest answer (bytes)")
    camera.shoot("airflow_connection_more_fields", *labels, "Allow plain HTTP", height=1180)


def _new_connection(camera: Camera, world: AirflowWorld, title: str) -> Any:
    camera.size(1200)
    camera.open(f"{world.url}/connections")
    camera.page.get_by_role("button", name="Add Connection").click()
    form = camera.page.get_by_role("dialog")
    form.get_by_role("combobox").first.click()
    camera.page.keyboard.type(title)
    camera.page.get_by_role("option", name=title).first.click()
    camera.see("Standard Fields")
    return form


def _test_button(camera: Camera, world: AirflowWorld) -> None:
    camera.size(620)
    camera.open(f"{world.url}/connections")
    camera.see(*(f"{name}_default" for name in PROVIDERS), OLD_KEY)
    for connection, told in (("b3os_default", "B3OS accepts the key."), (OLD_KEY, "but refuses the key")):
        row = camera.page.get_by_role("row").filter(has_text=connection)
        # By the keyboard: the hint of one button covers the next one.
        row.get_by_role("button", name="Test Connection").press("Enter")
        camera.see(told)
    camera.shoot("airflow_connection_test", "B3OS accepts the key.", "but refuses the key")


def _deferred_task(camera: Camera, world: AirflowWorld) -> None:
    task = f"{world.url}/dags/example_onepin/runs/{ANNOUNCEMENT}/tasks/speak"
    camera.size(700)
    camera.open(f"{task}/details")
    camera.shoot("airflow_link", "Deferred", "Open in OnePin", "runops.airflow.trigger.RunTrigger", height=560)
    camera.open(f"{task}/rendered_templates")
    camera.see("workflow_id", "source_language", "onepin_default")
    # What is to be said may be confidential: Airflow keeps no argument of that kind.
    camera.never("script_text")
    camera.shoot("airflow_rendered", height=560)


def _finished_task(camera: Camera, world: AirflowWorld) -> None:
    task = f"{world.url}/dags/example_onepin/runs/{PAUSED}/tasks/speak"
    camera.size(700)
    camera.open(task)
    camera.see("Submitted onepin run", "the triggerer watches it from here", ": paused, 3/15 nodes, A voice provider")
    _give_room(camera)
    camera.shoot("airflow_log", ": running, 3/15 nodes", ": completed (succeeded), 15/15 nodes", height=640)
    camera.size(1000)
    camera.open(f"{task}/xcom")
    camera.see("return_value", "run_url", "run_id")
    camera.page.get_by_role("button", name="Expand all extra JSON").click()
    camera.shoot("airflow_xcom", '"outcome": "succeeded"', '"verdict": "succeed"')


def _many_runs(camera: Camera, world: AirflowWorld) -> None:
    task = f"{world.url}/dags/example_many_runs/runs/{PORTFOLIO}/tasks/place"
    camera.size(760)
    camera.open(task)
    camera.see("40/40: ", " succeeded, ", " degraded")
    _give_room(camera)
    camera.shoot("airflow_many_runs", "Required: 0.95", height=640)
    camera.size(1100)
    camera.open(f"{task}/xcom")
    camera.see("return_value", "runs", "progress")
    camera.page.get_by_role("button", name="Expand all extra JSON").click()
    camera.shoot("airflow_many_runs_xcom", '"verdicts"')


def _grid(camera: Camera, world: AirflowWorld) -> None:
    camera.size(900)
    camera.open(f"{world.url}/dags/example_release_story/runs/release-stopped")
    camera.see("Failed", "Skipped", "Upstream Failed", "Success")
    camera.shoot("airflow_grid", "report_finding", "rate_by_hand")


def _failed_task(camera: Camera, world: AirflowWorld) -> None:
    camera.size(700)
    camera.open(f"{world.url}/dags/example_release_story/runs/release-stopped/tasks/gate")
    _give_room(camera)
    camera.see("RunRejected")
    camera.page.keyboard.press("w")  # long lines are wrapped
    # Below stands Airflow's traceback, with the paths of this machine.
    camera.shoot("airflow_failure", "The task fails, because on_outcome says fail for succeeded.", above='File "/')


def _give_room(camera: Camera) -> None:
    """Move the border between the grid and the page to the left, as far as it goes."""
    handle = camera.page.locator("[data-resize-handle], [data-panel-resize-handle-id]").first
    border = handle.bounding_box()
    while border is None:  # The page is drawn anew.
        handle.wait_for(state="visible")
        border = handle.bounding_box()
    camera.page.mouse.move(border["x"] + border["width"] / 2, border["y"] + 60)
    camera.page.mouse.down()
    camera.page.mouse.move(120, border["y"] + 60, steps=5)
    camera.page.mouse.up()

"""Dagster's pages: what each must show, and the pictures of them."""

from __future__ import annotations

from scripts.screenshots.browser import Camera
from scripts.screenshots.world import LOCATION, REPORTED, SENSOR, DagsterWorld

TRIES = 5
"""A tick that comes while we look moves all rows down."""


def take(camera: Camera, world: DagsterWorld) -> None:
    """All pictures of Dagster."""
    _assets(camera, world)
    _check(camera, world)
    _runs(camera, world)
    _sensor(camera, world)
    _many_runs(camera, world)
    _component(camera, world)


def _assets(camera: Camera, world: DagsterWorld) -> None:
    camera.size(1060)
    camera.open(f"{world.url}/assets/security/audit?view=events")
    # Dagster remembers it: more room for what is to be seen.
    camera.page.get_by_text("Hide navigation").click()
    camera.see("runops/overview", "runops/url", "runops/details/spent_usd", "runops/duration_seconds")
    camera.shoot("dagster_asset", "https://app.fabraix.com/nyx/runs/", "57% (2.87/5 USD)")
    camera.size(1060)
    camera.open(f"{world.url}/assets/security/audit?view=overview")
    camera.page.get_by_text("Plots", exact=True).first.click()
    camera.page.get_by_text("runops/details/findings_count").filter(visible=True).last.scroll_into_view_if_needed()
    camera.shoot("dagster_plots", "runops/details/findings_count", "runops/duration_seconds", "runops/spend")
    camera.size(900)
    camera.open(f"{world.url}/assets/voices/announcement?view=overview")
    camera.shoot(
        "dagster_external_asset", "External Asset", "100% (15/15 nodes)", "In the queue", "completed (succeeded)"
    )


def _check(camera: Camera, world: DagsterWorld) -> None:
    camera.size(960)
    camera.open(f"{world.url}/assets/agent?view=checks")
    camera.see("This is a ", "Failed", "runops/details/findings_count", "runops/verdict")
    camera.shoot("dagster_check", "How the newest external run of config_name agent-nightly ended.", "; verdict: fail.")


def _runs(camera: Camera, world: DagsterWorld) -> None:
    runs = world.runs()
    camera.size(1000)
    camera.open(f"{world.url}/runs/{runs['survey,survey_report']}")
    camera.see("Success", "degraded, one carrier did not answer; verdict: skip.", "Skipped execution of step")
    camera.page.get_by_placeholder("Filter…").fill("step:survey")
    camera.shoot("dagster_run", "Submitted nexio run", "runops/record")


def _sensor(camera: Camera, world: DagsterWorld) -> None:
    camera.size(560)
    told = f"Skip reason: {REPORTED}"
    for _ in range(TRIES):
        camera.open(f"{world.url}/locations/{LOCATION}/sensors/{SENSOR}")
        camera.see("0 runs requested")
        # The latest tick stands above the table, and each row says it twice: as its status, and as a link.
        camera.page.get_by_text("0 runs requested").nth(2 + 2 * world.tick_that_reported()).click()
        if camera.shows(told, 5.0):
            break
    camera.shoot("dagster_sensor", told, "looked at 2 of 2 targets.", height=320)


def _many_runs(camera: Camera, world: DagsterWorld) -> None:
    camera.size(1060)
    camera.open(f"{world.url}/assets/portfolio?view=events")
    camera.see("runops/overview")
    camera.shoot("dagster_many_runs", "Required", "one carrier did not answer")


def _component(camera: Camera, world: DagsterWorld) -> None:
    camera.size(800)
    camera.open(f"{world.url}/locations/{LOCATION}/components/library")
    camera.page.get_by_text("runops", exact=True).first.click()
    camera.page.get_by_text("runops.dagster.component.RunopsComponent").first.click()
    camera.see("Assets, checks and sensors of external runs")
    camera.shoot("dagster_component")

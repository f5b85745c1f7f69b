"""The page in a real browser: a session is watched while it acts, a dream is played, models are shown."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.http_client import PlanningClient
from tests.clients.conftest import Address, serving
from tests.docs.blocks import ROOT

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: as root, apt-get install chromium")
expect = playwright.expect


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """The bundled models, watched, behind keys."""
    log = tmp_path_factory.mktemp("ui") / "serve.log"
    with serving(ROOT / "checkpoints", log, watch_sessions="true", api_keys="open-sesame") as up:
        yield up


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, address: Address) -> Iterator[Any]:
    """A tab that knows the key; whatever goes wrong in it fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.add_init_script("sessionStorage.setItem('thick-key', 'open-sesame')")
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield tab
    context.close()
    assert not wrong


@pytest.fixture
def client(address: Address) -> Iterator[PlanningClient]:
    with PlanningClient(address.http, api_key="open-sesame") as made:
        yield made


def test_a_session_is_seen_acting(page: Any, client: PlanningClient, address: Address) -> None:
    affine: set[str | None] = set()
    page.on(
        "request",
        lambda asked: affine.add(asked.headers.get("x-session-id")) if "/events" in asked.url else None,
    )
    with client.session("doorkey6", seed=1, planner={"samples": 16, "simulations": 8}) as session:
        page.goto(address.http + "/ui")
        page.get_by_role("link", name=session.id[:10]).click()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        for step, observation in enumerate(seen(4)):
            session.act(observation, reward=0.25 * step)
            expect(page.locator(".facts dd").first).to_have_text(str(step))
        frame = page.locator("img.frame")
        expect(frame).to_have_attribute("src", re.compile("^data:image/png"))
        expect(page.locator(".strip img")).to_have_count(4)
        chart = page.get_by_role("img", name=re.compile("Open gates over the last 4 steps"))
        expect(chart).to_be_visible()
        expect(chart.locator("rect")).to_have_count(4)
        tree = page.get_by_role("img", name=re.compile("Search over jumps"))
        expect(tree).to_be_visible()
        expect(tree.locator("circle.chosen").first).to_be_visible()
        expect(page.get_by_alt_text("the subgoal")).to_be_visible()
        expect(page.locator(".bar span").first).to_be_attached()
        page.set_viewport_size({"width": 390, "height": 800})
        for drawn in (tree, chart):  # what is written there can be read on a phone, too
            tall = drawn.locator("text").evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
            assert min(tall) > 9
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert affine == {session.id}  # in a cluster, of the replica on which it acts
    expect(page.get_by_text("ended", exact=True)).to_be_visible()


def test_a_dream_is_played_taken_back_and_saved(page: Any, client: PlanningClient, address: Address) -> None:
    with client.session("doorkey6", seed=1) as session:
        session.act(seen(1)[0], planner={"samples": 16})
        page.goto(f"{address.http}/ui/#/dream?session={session.id}")
        step, frame = page.locator(".facts dd").first, page.locator("img.frame")
        expect(step).to_have_text("0")
        start = frame.get_attribute("src")
        page.keyboard.press("1")
        expect(step).to_have_text("1")
        turned = frame.get_attribute("src")
        assert turned != start
        page.get_by_role("button", name="2 key 3").click()
        expect(step).to_have_text("2")
        page.get_by_role("button", name="Back").click()
        expect(step).to_have_text("1")
        assert frame.get_attribute("src") == turned  # the same dream again
        page.get_by_role("button", name="return to step 0").press("Enter")  # without a mouse
        expect(step).to_have_text("0")
        page.keyboard.press("1")
        expect(step).to_have_text("1")
        assert frame.get_attribute("src") == turned
        page.get_by_role("button", name="Every high-level action").click()
        expect(page.get_by_alt_text("what could happen next")).to_be_visible()
        page.get_by_role("button", name="Jump A2").click()
        expect(page.get_by_alt_text("where high-level action 2 leads")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save as GIF").click()
        assert Path(download.value.path()).read_bytes().startswith(b"GIF8")
        page.get_by_role("button", name="Fork").click()
        expect(page.get_by_role("status")).to_contain_text("A second dream")
        assert len(client.dreams()) == 2
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="fork at step 1").click()
        fork = opened.value
        expect(fork.locator("img.frame")).to_have_attribute("src", turned)  # it goes on from there
        fork.close()


def test_keys_wait_for_the_step_that_is_on_its_way_and_too_many_are_refused(
    page: Any, address: Address
) -> None:
    steps: list[int] = []

    def slowly(route: Any) -> None:
        steps.append(route.request.post_data_json["actions"][0])
        page.wait_for_timeout(400)
        route.continue_()

    page.goto(address.http + "/ui/#/dream")
    page.get_by_label("Model").select_option("doorkey6")
    page.get_by_label("Draw what comes").uncheck()  # and the keys go on to act
    page.get_by_role("button", name="Begin", exact=True).click()
    step = page.locator(".facts dd").first
    expect(step).to_have_text("0")
    page.route("**/v1/dreams/*/step", slowly)
    page.get_by_label("Draw what comes").focus()
    for key in ("2", "3", "ArrowLeft"):
        page.keyboard.press(key)
    expect(step).to_have_text("3")
    assert steps == [1, 2, 0]
    page.keyboard.press("2")
    page.keyboard.press("Backspace")  # of the step that is on its way
    page.get_by_role("button", name="2 key 3").click()
    expect(page.locator(".strip figcaption").last).to_have_text("4: 2")
    assert steps[3:] == [1, 1, 2, 0, 2]  # Back dreams the first three again
    for _ in range(9):
        page.keyboard.press("2")
    expect(page.get_by_role("status")).to_contain_text("Not taken")
    expect(step).to_have_text("11")  # one on its way, six waiting
    page.keyboard.down("2")
    for _ in range(9):
        page.keyboard.down("2")  # held: as fast as the model, without a crowd that goes on after it
    page.keyboard.up("2")
    expect(step).to_have_text("12")
    page.wait_for_timeout(1000)
    expect(step).to_have_text("12")


def test_what_waits_for_a_step_that_fails_is_not_done(page: Any, address: Address) -> None:
    page.goto(address.http + "/ui/#/dream")
    page.get_by_label("Model").select_option("doorkey6")
    page.get_by_role("button", name="Begin", exact=True).click()
    step = page.locator(".facts dd").first
    expect(step).to_have_text("0")
    failing = [1]

    def once(route: Any) -> None:
        page.wait_for_timeout(300)
        told = {"status": 200, "content_type": "application/json", "body": '{"frames": []}'}
        route.fulfill(**told) if failing.pop() else route.continue_()

    page.route("**/v1/dreams/*/step", once)
    for key in ("1", "2", "3"):
        page.keyboard.press(key)
    expect(page.get_by_role("status")).to_contain_text("What waited was not done (2).")
    expect(step).to_have_text("0")


def test_without_a_seed_the_service_draws_one(page: Any, address: Address) -> None:
    asked: list[Any] = []
    page.on("request", lambda sent: asked.append(sent.post_data_json) if sent.method == "POST" else None)
    page.goto(address.http + "/ui/#/dream")
    page.get_by_label("Model").select_option("doorkey6")
    seed, begin = page.get_by_label("Seed"), page.get_by_role("button", name="Begin", exact=True)
    step, used = page.locator(".facts dd").first, page.locator(".facts dd").last
    expect(used).to_have_text(seed.input_value())
    for typed, sent in (("0", 0), ("", None)):
        seed.fill(typed)
        with page.expect_response("**/v1/dreams") as answered:
            begin.click()
        assert asked[-1].get("seed") == sent
        expect(used).to_have_text(str(answered.value.json()["seed"]))
    page.get_by_role("button", name="1 key 2").click()
    expect(step).to_have_text("1")
    page.get_by_role("button", name="Back", exact=True).click()
    expect(step).to_have_text("0")
    assert asked[-1]["seed"] == int(used.text_content())  # the same dream again
    count = len(asked)
    for wrong in ("1e", "1e300"):
        seed.fill("")
        seed.press_sequentially(wrong)
        begin.click()
        expect(page.get_by_role("alert")).to_contain_text("seed: expected a whole number")
    assert len(asked) == count


def test_continuous_actions_have_sliders(page: Any, address: Address) -> None:
    page.goto(address.http + "/ui/#/dream")
    page.get_by_label("Model").select_option("cartpole")
    page.route(
        "**/v1/dreams/*", lambda route: (page.wait_for_timeout(300), route.continue_())
    )  # its end is slow
    page.get_by_role("button", name="Begin", exact=True).click()
    slider = page.get_by_role("slider", name="action 0")
    expect(slider).to_be_visible()
    page.get_by_role("button", name="Step", exact=True).click()
    expect(page.locator(".facts dd").first).to_have_text("1")


def test_a_dream_that_begins_after_its_page_was_left_is_deleted(
    page: Any, client: PlanningClient, address: Address
) -> None:
    made: list[int] = []
    page.route(
        "**/v1/dreams", lambda route: (page.wait_for_timeout(600), made.append(1), route.continue_())
    )  # its beginning is slow
    page.on("response", lambda got: made.append(got.status) if got.request.method == "DELETE" else None)
    before = {each.dream_id for each in client.dreams()}
    page.goto(address.http + "/ui/#/dream")
    expect(page.get_by_role("heading", name="Dream")).to_be_visible()
    page.goto(address.http + "/ui/#/models")
    page.wait_for_timeout(1500)
    assert made == [1, 204]
    assert {each.dream_id for each in client.dreams()} <= before


def test_models_are_shown_with_what_they_were_measured_to_do(page: Any, address: Address) -> None:
    page.goto(address.http + "/ui/#/models")
    card = page.get_by_role("region", name="model doorkey6")
    expect(card.get_by_text("ready")).to_be_visible()
    expect(card.get_by_text("hierarchical", exact=True).first).to_be_attached()
    expect(card.locator("pre").filter(has_text="curl -s")).to_contain_text(address.http)
    expect(card.locator("pre").filter(has_text="curl -s")).to_contain_text("Bearer $THICK_API_KEY")
    for clipboard, said in (("undefined", "Copied"), ("{writeText: () => Promise.reject('no')}", "Selected")):
        page.evaluate(
            f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}, configurable: true}})"
        )
        if said == "Selected":
            page.evaluate("document.execCommand = () => false")
        copy = card.get_by_role("button", name=re.compile("Cop|Sel")).first
        copy.click()
        expect(copy).to_have_text(said)
        assert page.evaluate("getSelection().toString()").startswith("curl -s")


def test_the_skip_link_leads_to_the_content_of_the_same_page(page: Any, address: Address) -> None:
    page.goto(address.http + "/ui/#/models")
    expect(page.get_by_role("heading", name="doorkey6 1")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view"
    page.wait_for_timeout(300)
    expect(page.get_by_role("heading", name="doorkey6 1")).to_be_visible()


def test_why_a_page_has_nothing_to_show_stays_there_and_leaves_with_it(
    browser: Any, address: Address, client: PlanningClient
) -> None:
    page = browser.new_context().new_page()
    page.add_init_script("sessionStorage.setItem('thick-key', 'open-sesame')")
    page.clock.install()
    with client.session("doorkey6", seed=1) as session:
        for part, reason in (
            ("sessions/nobody", "session 'nobody': there is none"),
            ("dream?session=nobody", "session 'nobody': there is none"),
            (f"dream?session={session.id}", "act first, or dream from an observation"),
        ):
            page.goto(f"{address.http}/ui/#/{part}")
            expect(page.get_by_role("alert")).to_contain_text(reason)
            page.clock.fast_forward(20_000)
            expect(page.get_by_role("alert")).to_contain_text(reason)
    page.goto(f"{address.http}/ui/#/dream")
    page.get_by_label("Seed").fill("-1")
    page.get_by_role("button", name="Begin", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("seed: expected")
    page.goto(f"{address.http}/ui/#/models")
    expect(page.get_by_role("heading", name="doorkey6 1")).to_be_visible()
    expect(page.get_by_text("seed: expected")).to_have_count(0)
    page.context.close()


def test_a_service_that_is_away_is_said_and_the_dream_goes_on_when_it_is_back(
    browser: Any, address: Address
) -> None:
    page = browser.new_context().new_page()
    page.add_init_script("sessionStorage.setItem('thick-key', 'open-sesame')")
    page.goto(address.http + "/ui/#/dream")
    page.get_by_label("Model").select_option("doorkey6")
    page.get_by_role("button", name="Begin", exact=True).click()
    act = page.get_by_role("button", name="1 key 2")
    expect(act).to_be_visible()
    page.context.set_offline(True)
    act.click()
    expect(page.get_by_role("status")).to_have_text("The service cannot be reached.")
    page.context.set_offline(False)
    act.click()
    expect(page.locator(".facts dd").first).to_have_text("1")
    page.context.close()


def test_what_could_happen_next_can_be_read_on_a_phone(page: Any, address: Address) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(address.http + "/ui/#/dream")
    page.get_by_role("button", name="Every high-level action").click()
    sheet = page.get_by_alt_text("what could happen next")
    expect(sheet).to_be_visible()
    assert sheet.evaluate("each => each.width == each.naturalWidth")  # in a part that scrolls
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_page_asks_for_a_key_and_works_on_a_phone_and_in_the_dark(browser: Any, address: Address) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = context.new_page()
    dialog, key = page.get_by_role("dialog", name="API key"), page.get_by_label("Key", exact=True)
    page.goto(address.http + "/ui/")  # the list of sessions, which asks again and again
    expect(dialog).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_timeout(2500)
    expect(dialog).to_be_hidden()
    page.goto(address.http + "/ui/#/sessions/somebody")
    expect(dialog).to_be_visible()
    key.fill("wrong")
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_text("the API key is not known here")).to_be_attached()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    page.goto(address.http + "/ui/#/models")
    key.fill("open-sesame")
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_role("heading", name="doorkey6 1")).to_be_visible()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    for part in ("models", "sessions", "dream"):
        page.goto(f"{address.http}/ui/#/{part}")
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{part} is wider than the screen by {wide}"
    page.keyboard.press("Tab")
    context.close()


def test_nothing_comes_from_elsewhere_and_no_script_stands_in_the_page(address: Address) -> None:
    import httpx

    answer = httpx.get(address.http + "/ui/", trust_env=False)
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    folder = ROOT / "service" / "ui" / "page"
    for file in folder.iterdir():
        text = file.read_text()
        assert not re.search(r"(src|href|from|url\(|@import)\s*=?\s*[\"'(]?https?:", text), file.name
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", (folder / "index.html").read_text())
    assert httpx.get(address.http + "/ui/../settings.py", trust_env=False).status_code in (401, 404)
    assert httpx.get(address.http + "/ui/nothing.js", trust_env=False).status_code == 404


def seen(count: int) -> list[Any]:
    """What the bundled model's environment shows."""
    from thick.envs import make

    env = make("minigrid:MiniGrid-DoorKey-6x6-v0+map")
    shown = [env.reset(seed=3)[0]]
    while len(shown) < count:
        shown.append(env.step(len(shown) % 2)[0])
    env.close()
    return shown

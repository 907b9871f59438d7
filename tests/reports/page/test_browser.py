"""The page as a person has it: opened from a file in a headless Chromium."""

import pytest

from reports.claims.answers import STATUSES
from tests.browser import visited

pytestmark = pytest.mark.browser

WIDTHS = (360, 1280)
COLUMN = """(head) => [...head.closest('table').tBodies[0].rows].map(
    (row) => row.cells[head.cellIndex].textContent.trim())"""


@pytest.fixture
def opened(made):
    """Return what opens the page of the constructed plan."""

    def opened(**options):
        return visited(made.path.as_uri(), **options)

    return opened


def shown(visit, selector):
    """Return how many elements a person can see."""
    return visit.page.locator(selector).filter(visible=True).count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_quietly_fits_and_is_accessible(opened, width, scheme):
    with opened(width=width, color_scheme=scheme) as visit:
        assert visit.messages == [] and visit.requests == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        assert visit.violations() == []
        # What is folded away must be accessible, too.
        visit.page.evaluate(
            "document.querySelectorAll('details').forEach((its) => its.open = true)"
        )
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
        assert visit.violations() == []
        # White on black, or black on white.
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(","))) < 384) == (scheme == "dark")


def test_the_policy_lets_the_script_run_and_nothing_else(opened):
    # Without Playwright's bypass the browser itself keeps to the policy.
    with opened(bypass_csp=False) as visit:
        assert visit.messages == []
        assert shown(visit, "thead button") > 0
        visit.page.evaluate("document.body.append(document.createElement('img'))")
        visit.page.evaluate("document.images[0].src = 'https://example.org/a.png'")
        visit.page.wait_for_timeout(200)
        assert any("Content Security Policy" in message for message in visit.messages)


def test_a_heading_sorts_its_table(opened):
    with opened() as visit:
        head = visit.page.locator("#comparison table").first.locator("th.number").nth(2)
        sorts = head.locator("button")
        assert head.get_attribute("aria-sort") == "none"
        values = [text for text in head.evaluate(COLUMN) if text != "–"]
        numbers = sorted((float(text.split()[0]) for text in values), reverse=True)

        def column():
            return [text.split()[0] for text in head.evaluate(COLUMN)]

        sorts.click()
        assert head.get_attribute("aria-sort") == "descending"
        # What has no number comes last in both directions.
        assert column()[-4:] == ["–"] * 4
        assert [float(text) for text in column()[:-4]] == numbers
        sorts.focus()
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert [float(text) for text in column()[:-4]] == numbers[::-1]
        assert column()[-4:] == ["–"] * 4
        others = visit.page.locator("#comparison table").first.locator(
            "th[aria-sort]:not([aria-sort=none])"
        )
        assert others.count() == 1
        method = visit.page.locator("#comparison table").first.locator("th").nth(1)
        method.locator("button").click()
        assert method.get_attribute("aria-sort") == "ascending"
        assert method.evaluate(COLUMN) == sorted(method.evaluate(COLUMN))
        assert visit.messages == []


def test_claims_are_filtered_by_status(opened):
    with opened() as visit:
        group = visit.page.locator("[data-filter=claims]")
        choices = group.locator("button").all()
        assert len(choices) == len(STATUSES)
        rows = "details.claims tbody tr"
        every = visit.page.locator(rows).count()
        counts = [int(choice.inner_text().split()[1]) for choice in choices]
        assert sum(counts) == every
        for choice, count, status in zip(choices, counts, STATUSES, strict=True):
            choice.click()
            pressed = [its.get_attribute("aria-pressed") for its in choices]
            assert pressed.count("true") == 1 and choice.get_attribute("aria-pressed") == "true"
            assert group.locator("output").inner_text() == f"{count} claims are shown"
            left = visit.page.locator(f"{rows}:not([hidden])")
            assert left.count() == count
            assert all(status in text for text in left.all_inner_texts() if text)
        choices[0].click()
        # A paper's table without such a claim is not shown at all, and the others are open.
        assert shown(visit, "details.claims") == shown(visit, "details.claims[open]") == 1
        choices[0].click()
        assert choices[0].get_attribute("aria-pressed") == "false"
        assert visit.page.locator(f"{rows}:not([hidden])").count() == every


def test_the_gallery_is_filtered_and_sorted(opened):
    with opened() as visit:
        page = visit.page
        form = page.locator("[data-filter=gallery]")
        every = shown(visit, ".card")
        assert every == 6 and form.locator("output").inner_text() == "6 of 6 examples are shown"
        form.get_by_label("Rule").select_option("both fail")
        assert shown(visit, ".card") == 2
        form.get_by_label("Method").select_option("cris tiny")
        assert shown(visit, ".card") == 1
        form.get_by_label("Rule").select_option("")
        form.get_by_label("Method").select_option("")

        def differences():
            return [float(text) for text in page.locator(".card .difference").all_inner_texts()]

        assert [abs(its) for its in differences()] == sorted(map(abs, differences()), reverse=True)
        form.get_by_label("Order").select_option("gain")
        assert differences() == sorted(differences(), reverse=True)
        form.get_by_label("Order").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        assert form.get_by_label("Order").input_value() == "loss"
        assert differences() == sorted(differences())


def test_every_figure_opens_large_and_the_keyboard_leads_to_the_next(opened):
    with opened() as visit:
        page = visit.page
        dialog = page.locator("dialog")
        buttons = page.locator("main .enlarge")
        assert buttons.count() == page.locator("main [data-large]").count() == 17
        for button in buttons.all():
            button.scroll_into_view_if_needed()
            small = button.locator("..").locator("svg").first.bounding_box()
            button.click()
            assert dialog.get_attribute("aria-label")
            large = dialog.locator(".content svg").first.bounding_box()
            assert large["width"] > small["width"]
            page.keyboard.press("Escape")
            assert not dialog.is_visible()
        buttons.first.focus()
        page.keyboard.press("Enter")
        first = dialog.get_attribute("aria-label")
        page.keyboard.press("ArrowRight")
        second = dialog.get_attribute("aria-label")
        page.keyboard.press("ArrowLeft")
        assert first == dialog.get_attribute("aria-label") != second
        assert visit.violations() == []
        page.keyboard.press("Escape")
        # The focus is back where it was.
        assert page.evaluate("document.activeElement.className") == "enlarge"
        assert visit.messages == []


@pytest.mark.parametrize("width", WIDTHS)
def test_without_javascript_everything_can_be_read(opened, width):
    with opened(width=width, java_script_enabled=False) as visit:
        assert shown(visit, ".card") == 6 and shown(visit, ".chart") == 11
        assert shown(visit, "button") == 0 and shown(visit, "form") == 0
        visit.page.get_by_text("What these tables leave out").click()
        assert shown(visit, "#comparison details li") > 0


def test_every_link_and_control_is_reached_by_tab(opened):
    with opened() as visit:
        page = visit.page
        seen = []
        for _ in range(12):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.textContent.trim()"))
        assert seen[:9] == page.locator("nav a").all_inner_texts()
        # Then comes the region of the first table, and its headings.
        assert seen[10:12] == ["split", "method"]


def test_it_prints_in_black_on_white_without_controls(opened):
    with opened(color_scheme="dark") as visit:
        visit.page.emulate_media(media="print", color_scheme="dark")
        paper = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
        assert shown(visit, "nav") == 0 and shown(visit, ".enlarge") == 0
        assert visit.page.pdf()[:4] == b"%PDF"


def test_text_from_data_runs_nothing(opened):
    with opened(bypass_csp=True) as visit:
        dialogs = []
        visit.page.on("dialog", lambda its: (dialogs.append(its.message), its.dismiss()))
        visit.page.evaluate(
            "document.querySelectorAll('details').forEach((its) => its.open = true)"
        )
        assert dialogs == [] and visit.page.locator("script").count() == 1

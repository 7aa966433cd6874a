from __future__ import annotations

import re

import pytest
import torch

import equipoise as eq
from equipoise.monitor.history import RecordError, read_history
from equipoise.monitor.page import render
from tests.browser import CHROMIUM, opened
from tests.monitor.test_history import HEADER

ALWAYS = ("Losses", "Weights", "Who moves the shared parameters", "Which gradients agree")


def own_html(page: str) -> str:
    """The page without plotly.js, whose source names addresses that it never opens here."""
    scripts = re.findall(r"<script>.*?</script>", page, flags=re.DOTALL)
    return page.replace(max(scripts, key=len), "")


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


@pytest.fixture
def eventful(tmp_path, train):
    """A run in which something happens to everything."""
    balancer = eq.GradNorm(["near", "far", "sky"], priorities={"sky": eq.Ramp(0.1, 1.0, steps=40)})

    def spoil(step, losses):
        if step in (30, 31):
            losses["near"] = losses["near"] * torch.nan
        if step % 10 == 5:
            del losses["far"]
        return losses

    with eq.Recorder(balancer, tmp_path / "eventful", every=1, measure=2) as recorder:
        train(balancer, 80, spoil)
    return recorder


def test_the_page_shows_everything_and_asks_for_nothing_from_outside(eventful) -> None:
    page = eventful.report().read_text(encoding="utf-8")
    assert headings(page) == [
        *ALWAYS,
        *("Conflicts per hundred steps", "Skipped steps", "Priorities", "How it was recorded"),
    ]
    assert "default-src 'none'" in page
    assert not re.search(r"<(link|img|iframe)|https?://|@import|url\(", own_html(page))


def test_the_sentence_on_top_says_what_happened(eventful) -> None:
    page = eventful.report().read_text(encoding="utf-8")
    (said,) = re.findall(r"<h1>(.*?)</h1>", page)
    assert said.startswith("GradNorm, 80 steps: ")
    assert "the weight of" in said
    assert "of the gradient" in said
    assert "of 100 measured steps" in said
    assert "2 steps were skipped for what was not finite in near" in said


def test_what_nothing_is_known_of_is_not_drawn(tmp_path, train) -> None:
    balancer = eq.Uncertainty(["near", "far", "sky"])
    recorder = eq.Recorder(balancer)
    train(balancer, 11)
    page = recorder.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert headings(page) == ["Losses", "Weights", "How it was recorded"]
    assert "no step was skipped" in page
    assert "not measured" in page


def test_every_picture_says_in_words_what_it_shows_and_takes_the_keyboard(eventful) -> None:
    page = own_html(eventful.report().read_text(encoding="utf-8"))
    labels = re.findall(
        r'<figure class="fluid" role="group" tabindex="0" aria-label="(.*?)">', page
    )
    assert len(labels) == page.count("<figure") == 7
    assert all("near" in label or "conflict" in label for label in labels)
    assert page.count('class="scroll" role="region" tabindex="0"') == 2


def test_pairs_are_named_in_a_table_too(eventful) -> None:
    page = own_html(eventful.report().read_text(encoding="utf-8"))
    for pair in ("near:far", "near:sky", "far:sky"):
        assert f'<tr><th scope="row">{pair}</th>' in page


def test_several_runs_stand_side_by_side_on_one_scale(run_of) -> None:
    folders = [run_of("first"), run_of("second", eq.Equal)]
    page = own_html(render([read_history(folder) for folder in folders]))
    assert headings(page)[:4] == list(ALWAYS)
    assert page.count("<figcaption>first</figcaption>") == 5
    assert page.count("<figcaption>second</figcaption>") == 5
    ranges = re.findall(r'"title":\{"text":"loss"\},[^{}]*"range":(\[.*?\])', page)
    assert len(ranges) == 2
    assert len(set(ranges)) == 1


def test_runs_with_other_losses_stand_beside_each_other_as_well(run_of, tmp_path) -> None:
    balancer = eq.Equal(["other"])
    recorder = eq.Recorder(balancer, tmp_path / "alone", every=1)
    weight = torch.ones(2, requires_grad=True)
    balancer.backward({"other": weight.sum()})
    page = render([read_history(run_of(steps=3)), recorder.history()])
    assert "<strong>alone</strong>: Equal, 1 step: " in page


def test_runs_of_one_name_are_told_apart(run_of) -> None:
    folders = [run_of("a/run", steps=6), run_of("b/run", steps=6)]
    page = own_html(render([read_history(folder) for folder in folders]))
    assert "<strong>run (1)</strong>" in page
    assert "<strong>run (2)</strong>" in page


def test_names_are_escaped(tmp_path) -> None:
    balancer = eq.Equal(["<b>", "&"])
    recorder = eq.Recorder(balancer, tmp_path, measure=1)
    weight = torch.ones(2, requires_grad=True)
    balancer.backward({"<b>": weight.sum(), "&": weight.prod()})
    page = own_html(recorder.report().read_text(encoding="utf-8"))
    assert "<b>" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_rebuilding_gives_the_same_page(eventful) -> None:
    first = eventful.report().read_text(encoding="utf-8")
    assert eventful.report().read_text(encoding="utf-8") == first


def test_a_record_without_a_step_is_refused(tmp_path) -> None:
    (tmp_path / "record.jsonl").write_text(HEADER + "\n")
    with pytest.raises(RecordError, match="holds no step yet"):
        render([read_history(tmp_path)])


def test_a_recorder_without_a_folder_asks_where(balancer, train) -> None:
    recorder = eq.Recorder(balancer)
    train(balancer, 1)
    with pytest.raises(ValueError, match="This recorder has no folder; say where"):
        recorder.report()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")
@pytest.mark.parametrize(
    ("width", "scheme", "ink"),
    [
        pytest.param(1300, 1, "28, 28, 28", id="wide and light"),
        pytest.param(390, 0, "232, 232, 232", id="phone and dark"),
    ],
)
def test_a_browser_without_network_draws_every_picture(
    eventful, tmp_path, width, scheme, ink
) -> None:
    options = (f"--window-size={width},900", f"--blink-settings=preferredColorScheme={scheme}")
    shown = opened(eventful.report(), tmp_path / "profile", *options)
    parts = shown.stdout.split("<figure ")[1:]
    assert len(parts) == 7
    for part in parts:
        assert "main-svg" in part.split("</figure>", 1)[0]
    assert f"fill: rgb({ink})" in shown.stdout  # the pictures follow the page into the dark
    assert "CONSOLE" not in shown.stderr  # neither an error nor a blocked request

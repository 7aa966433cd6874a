from __future__ import annotations

import pytest
from scripts.price import BEGIN, END, main, methods_table, with_methods_table

import equipoise as eq
from equipoise.benchmarks.bench.prices import Bench, write_bench
from equipoise.benchmarks.methods import MULTI_TERM_OPTIMIZERS
from equipoise.benchmarks.refusal import RequestError
from tests.benchmarks.bench.tiny import invented

SETTINGS = {"device": "cpu", "threads": 2, "torch": "2.13.0"}
BENCH = Bench(
    SETTINGS,
    [
        invented("gradnorm", losses=2, ratio=9.0),
        invented("gradnorm", ratio=1.81, memory=1.6),
        invented("gradnorm:every=10", ratio=1.08),
        invented("mtadam", ratio=6.0),
    ],
    [],
)


def cells(table: str, method: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| `{method}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_method_has_one_line():
    table = methods_table(BENCH)
    assert table.count("\n| `") == len(eq.list_balancers()) + len(MULTI_TERM_OPTIMIZERS)


def test_methods_stand_in_the_order_of_what_they_look_at():
    table = methods_table(BENCH)
    places = [table.index(f"| `{name}` |") for name in ("SoftAdapt", "GradNorm", "MTAdam")]
    assert places == sorted(places)


def test_line_holds_what_the_class_declares_and_what_was_measured_at_ten_losses():
    row = cells(methods_table(BENCH), "GradNorm")
    assert row[1].endswith(".")
    assert row[2:] == ["norms", "weights", "no", "1", "1.81", "1.08", "1.6"]


def test_losses_with_a_forward_pass_of_their_own_have_a_column_where_they_were_measured():
    own_graphs = [invented("gradnorm", model="pinn", ratio=1.3)]
    table = methods_table(Bench(SETTINGS, [*BENCH.prices, *own_graphs], []))
    assert cells(table, "GradNorm")[-2:] == ["1.6", "1.30"]
    assert cells(table, "Equal")[-1] == ""
    assert "Time, PINN" in table
    assert "Time, PINN" not in methods_table(BENCH)


@pytest.mark.parametrize("name", ["AutoBalance", "MTAdam", "MultiAdam"])
def test_an_optimizer_gives_the_update(name):
    assert cells(methods_table(BENCH), name)[2:5] == ["gradients", "update", "no"]


def test_the_note_names_the_optimizers_that_are_compared_with_adam():
    note = methods_table(BENCH).splitlines()[-1]
    assert "for `AutoBalance`, `MTAdam` and `MultiAdam` over that and Adam's update" in note


def test_a_method_without_a_price_says_so():
    assert cells(methods_table(BENCH), "Equal")[-4:] == ["", "not measured", "", ""]


def test_table_replaces_what_stands_between_the_markers_and_nothing_else():
    text = f"# Title\n\n{BEGIN}\nold\n{END}\n\nend\n"
    once = with_methods_table(text, BENCH)
    assert once.startswith(f"# Title\n\n{BEGIN}\n| Method |")
    assert once.endswith(f"{END}\n\nend\n")
    assert "old" not in once
    assert with_methods_table(once, BENCH) == once


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}"])
def test_a_document_without_both_markers_is_refused(text):
    with pytest.raises(RequestError, match="<!-- methods -->"):
        with_methods_table(text, BENCH)


def test_an_empty_benchmark_is_refused():
    with pytest.raises(RequestError, match="run equipoise bench first"):
        methods_table(Bench(SETTINGS, [], []))


def test_the_script_rewrites_the_document_in_place(tmp_path, monkeypatch):
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    source = write_bench(tmp_path, BENCH)
    monkeypatch.setattr("sys.argv", ["price.py", str(source), str(document)])
    main()
    assert document.read_text() == f"before\n{BEGIN}\n{methods_table(BENCH)}\n{END}\nafter\n"


def test_the_script_leaves_the_document_alone_where_nothing_was_measured(tmp_path, monkeypatch):
    document = tmp_path / "README.md"
    document.write_text("as it was")
    monkeypatch.setattr("sys.argv", ["price.py", str(tmp_path / "bench.json"), str(document)])
    with pytest.raises(SystemExit, match="run equipoise bench first"):
        main()
    assert document.read_text() == "as it was"

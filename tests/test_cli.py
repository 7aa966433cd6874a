from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import equipoise as eq
from equipoise.cli import app, main

ROOT = Path(__file__).parents[1]
SMALL = "tests.benchmarks.small:problem"
TUNED = "tests.benchmarks.tuned:problem"
SLOW = "tests.benchmarks.small:slow_problem"
METHODS = "equal,mtadam"


# A shell's background jobs ignore Ctrl-C, and whatever they start inherits that.
PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from equipoise.cli import main; sys.exit(main())"
)


def lines(folder: Path) -> list[str]:
    path = folder / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def keys(folder: Path) -> list[tuple[str, int]]:
    return [(run["balancer"], run["seed"]) for run in map(json.loads, lines(folder))]


def start_slow_comparison(folder: Path, *options: str, new_group=False) -> subprocess.Popen:
    request = ["compare", SLOW, "--balancers", METHODS, "--seeds", "20", "--out", str(folder)]
    request += options
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *request],
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_group,
    )


def stop_after_some_runs(
    process: subprocess.Popen, folder: Path, with_signal: int, *, whole_group=False
):
    while len(lines(folder)) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    # Ctrl-C goes to all that a terminal runs, the processes of a comparison among them.
    os.killpg(process.pid, with_signal) if whole_group else process.send_signal(with_signal)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_compare_trains_prints_a_table_and_leaves_results_and_a_report(tmp_path):
    request = ["compare", SMALL, "--balancers", METHODS, "--seeds", "2", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, request, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert keys(tmp_path) == [("equal", 0), ("mtadam", 0), ("equal", 1), ("mtadam", 1)]
    assert "mean ± 95 %" in result.output
    assert "Weights at the end" in result.output
    assert str(tmp_path / "report.html") in result.output.replace("\n", "")
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


def test_compare_digits_in_short(tmp_path):
    short = ["--balancers", METHODS, "--seeds", "1", "--epochs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["compare", "digits", *short])
    assert result.exit_code == 0, result.output
    assert keys(tmp_path) == [("equal", 0), ("mtadam", 0)]


def test_a_method_without_weights_is_compared_alone(tmp_path):
    request = ["compare", SMALL, "--balancers", "autobalance", "--seeds", "1"]
    result = CliRunner().invoke(app, [*request, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (run,) = map(json.loads, lines(tmp_path))
    assert {weight for row in run["trajectory"]["weights"].values() for weight in row} == {None}
    empty = '<th scope="row">autobalance</th><td></td><td></td>'
    assert empty in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_options_reach_the_runs(tmp_path):
    options = ["--epochs", "1", "--batch-size", "4", "--lr", "0.5", "--seeds", "7,"]
    request = ["compare", SMALL, "--balancers", "gradnorm:alpha=0.12", *options]
    assert main([*request, "--out", str(tmp_path)]) == 0
    (run,) = map(json.loads, lines(tmp_path))
    asked = {"epochs": 1, "batch_size": 4, "lr": 0.5, "steps": None}
    assert asked.items() <= run["options"].items()
    assert (run["balancer"], run["seed"]) == ("gradnorm:alpha=0.12", 7)
    assert len(run["trajectory"]["steps"]) == 6


def test_all_compares_every_method_that_the_problem_can_feed(tmp_path):
    request = ["compare", SMALL, "--balancers", "all", "--seeds", "1", "--epochs", "1"]
    assert main([*request, "--out", str(tmp_path)]) == 0
    found = {name for name, _ in keys(tmp_path)}
    assert {"equal", "right", "autobalance", "mtadam", "gradnorm"} <= found


def test_report_rebuilds_the_page(tmp_path):
    request = ["compare", SMALL, "--balancers", METHODS, "--seeds", "1", "--out", str(tmp_path)]
    assert main(request) == 0
    page = tmp_path / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0
    assert page.read_bytes() == before


def test_a_comparison_is_a_file_that_repeats_it(tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    wanted = [
        "--balancers",
        "equal,gradnorm:alpha=0|1.5",
        "--static",
        "2",
        "--retrain",
        "--lr",
        "0.01",
    ]
    request = ["compare", TUNED, *wanted, "--seeds", "2", "--goal", "0.5", "--optimizer", "adamw"]
    assert main([*request, "--out", str(first)]) == 0
    assert main(["compare", str(first / "plan.yaml"), "--out", str(again)]) == 0
    assert keys(first) == keys(again)
    assert [line["metric"] for line in map(json.loads, lines(first))] == [
        line["metric"] for line in map(json.loads, lines(again))
    ]
    plans = [(folder / "plan.yaml").read_text() for folder in (first, again)]
    assert plans[0] == plans[1]
    page = (again / "report.html").read_text(encoding="utf-8")
    row = "gradnorm:alpha=0|1.5 (last weights retrained)"
    for text in (row, "Between two tasks", "Each metric", "reached 0.5", "Holm", "of 2</td>"):
        assert text in page
    (again / "report.html").unlink()
    assert main(["report", str(again)]) == 0
    assert (again / "report.html").read_text(encoding="utf-8") == page


def test_an_option_beside_a_plan_file_is_refused(tmp_path, capsys):
    plan = tmp_path / "mine.yaml"
    plan.write_text("problem: digits")
    assert main(["compare", str(plan), "--seeds", "3"]) == 2
    assert f"--seeds 3: write it into {plan} instead." in capsys.readouterr().err


def test_sigkill_of_a_comparison_with_workers_loses_and_doubles_nothing(tmp_path):
    folder = tmp_path / "out"
    process = start_slow_comparison(folder, "--workers", "2")
    code, _, _ = stop_after_some_runs(process, folder, signal.SIGKILL)
    assert code == -signal.SIGKILL
    finished = keys(folder)
    seeds = str(max(seed for _, seed in finished) + 1)
    request = ["compare", SLOW, "--balancers", METHODS, "--seeds", seeds, "--out", str(folder)]
    assert main(request) == 0
    assert keys(folder)[: len(finished)] == finished
    wanted = [(name, seed) for seed in range(int(seeds)) for name in ("equal", "mtadam")]
    assert sorted(keys(folder)) == sorted(wanted)


def test_list_shows_methods_and_problems():
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    for name in ("mtadam", "gradnorm", "softadapt", "right", "digits", "toy_regression"):
        assert f"\n{name} " in result.output


def test_list_shows_the_options_of_one_method():
    result = CliRunner().invoke(app, ["list", "GradNorm"])
    assert result.exit_code == 0
    assert "Looks at gradient norms, watched at 'last_shared'" in result.output
    for name in ("alpha", "parametrisation", "wrt", "heads", "every"):
        assert f"\n{name} " in result.output


def test_options_of_every_kind_reach_compare_and_bench(tmp_path):
    methods = "gradnorm:wrt=shared,upgrad:heads=plain"
    request = ["compare", SMALL, "--balancers", methods, "--seeds", "1", "--out", str(tmp_path)]
    assert main(request) == 0
    assert keys(tmp_path) == [("gradnorm:wrt=shared", 0), ("upgrad:heads=plain", 0)]
    priced = ["bench", "--balancers", methods, "--models", "conv", "--losses", "2"]
    assert main([*priced, "--rounds", "2", "--out", str(tmp_path)]) == 0
    labels = [
        price["label"] for price in json.loads((tmp_path / "bench.json").read_text())["prices"]
    ]
    assert labels[2:] == ["gradnorm:wrt=shared", "upgrad:heads=plain"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("compare digitz", "Did you mean 'digits'?"),
        ("compare no.such.module:problem", "cannot be imported"),
        ("compare --balancers mtadm", "Did you mean 'mtadam'?"),
        ("compare --balancers gradnorm:alhpa=1", "Did you mean 'alpha'?"),
        ("compare --balancers gradnorm:alpha=x", "gradnorm:alpha=x"),
        ("compare --balancers gradnorm:measuring=2", "can only be given in code"),
        ("list gradnrom", "Did you mean 'gradnorm'?"),
        ("compare --balancers fixed", "needs the option 'weights'"),
        ("compare --seeds none", "--seeds"),
        ("compare --epochs 0", "--epochs"),
        ("compare --epochs many", "--epochs"),
        ("compare --threads 0", "--threads"),
        ("compare --lr -1", "--lr"),
        ("compare --lr 1e-3,-1", "--lr"),
        ("compare --budget 600", "--budget"),
        ("compare --budget 600steps --epochs 3", "--budget"),
        ("compare --optimizer adan", "Did you mean 'adam'?"),
        ("compare --static -1", "--static"),
        ("compare --tuning-seeds 0", "--tuning-seeds"),
        ("compare --engine dask", "--engine"),
        ("compare no_such_plan.yaml", "no_such_plan.yaml cannot be read"),
        ("compare --no-such-option 1", "--no-such-option"),
        ("compare --out results.jsonl/x", "--out results.jsonl/x"),
        ("demo --out results.jsonl/x", "--out results.jsonl/x"),
        ("report nowhere", "no finished run"),
        ("report", "folder"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_a_wrong_request_gets_one_line_and_exit_code_2(
    request_, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results.jsonl").write_text("")
    assert main(request_.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message.lower() in captured.err.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        ("broken_problem", "RuntimeError: shapes [8, 3] and [4, 2] do not fit"),
        ("problem_without_a_file", "no_such_data.pt"),
    ],
)
def test_an_error_in_a_users_code_is_told_from_there_on_with_exit_code_1(
    problem, error, tmp_path, capsys
):
    request = ["compare", f"tests.benchmarks.small:{problem}", "--out", str(tmp_path)]
    assert main(request) == 1
    first, place, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback")
    assert "small.py" in place
    assert error in last


def test_a_full_disk_is_told_in_a_line_with_exit_code_1():
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "equipoise.cli", "list", "cagrad"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["equipoise: [Errno 28] No space left on device"]


def test_what_a_user_named_is_never_taken_for_markup(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    request = ["compare", "tests.benchmarks.small:marked_problem", "--seeds", "1", "--steps", "2"]
    for columns in ("60", "100"):
        shown = CliRunner().invoke(app, request, env={"COLUMNS": columns})
        assert shown.exit_code == 0, shown.output
        assert "marked [red]: 2 steps" in shown.output
        assert "error [/x] :key:" in " ".join(shown.output.split())
        assert "plain [bold]sum[/bold]" in shown.output
        assert "Report: runs/marked [red]/report.html" in shown.output
    assert Path("runs/marked [red]/report.html").exists()


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(
    "command", ["", "compare", "demo", "diagnose", "report", "watch", "bench", "list"]
)
def test_no_help_is_cut(command, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= columns


def test_the_help_has_the_whole_sentence_of_each_command():
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    for command in app.registered_commands:
        first_line, *_ = command.callback.__doc__.splitlines()
        assert first_line in shown


def test_an_error_in_a_terminal_is_broken_between_words():
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "40"}
    command = [sys.executable, "-m", "equipoise.cli", "compare", "digitz"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=child, stderr=child)
    os.close(child)
    lines = read_until(parent, None).splitlines()
    os.close(parent)
    assert process.wait(timeout=60) == 2
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40
    assert "Did you mean 'digits'?" in " ".join(lines)


def test_a_wrong_request_ends_the_command_itself_with_exit_code_2():
    assert CliRunner().invoke(app, ["compare", "digitz"]).exit_code == 2
    assert CliRunner().invoke(app, ["report", "nowhere"]).exit_code == 2


def test_without_arguments_it_says_what_it_can_do(capsys):
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out


def test_a_killed_comparison_loses_no_finished_run_and_continues(tmp_path):
    folder = tmp_path / "out"
    code, _, _ = stop_after_some_runs(start_slow_comparison(folder), folder, signal.SIGKILL)
    assert code == -signal.SIGKILL
    finished = (folder / "results.jsonl").read_bytes()
    finished = finished[: finished.rfind(b"\n") + 1]
    # A tear, as a machine that lost its power leaves it.
    with (folder / "results.jsonl").open("ab") as file:
        file.write(finished.splitlines()[0][:100])

    runs = len(finished.splitlines())
    seeds = str(runs // 2 + 1)
    request = ["compare", SLOW, "--balancers", METHODS, "--seeds", seeds, "--out", str(folder)]
    assert main(request) == 0
    assert (folder / "results.jsonl").read_bytes().startswith(finished)
    expected = [(name, seed) for seed in range(int(seeds)) for name in ("equal", "mtadam")]
    assert keys(folder) == expected


def test_ctrl_c_leaves_a_report_of_what_is_finished(tmp_path):
    folder = tmp_path / "out"
    code, out, err = stop_after_some_runs(start_slow_comparison(folder), folder, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    assert err.splitlines() == ["Stopped; the same command continues here."]
    assert "mean ± 95 %" in out
    assert (folder / "report.html").exists()
    assert 3 <= len(keys(folder)) < 40
    assert main(["report", str(folder)]) == 0


def test_ctrl_c_with_workers_leaves_one_sentence_and_no_process(tmp_path):
    folder = tmp_path / "out"
    process = start_slow_comparison(folder, "--workers", "2", new_group=True)
    code, _, err = stop_after_some_runs(process, folder, signal.SIGINT, whole_group=True)
    assert code == 130
    # That its output has ended says that no process is left which could write to it.
    assert err.splitlines() == ["Stopped; the same command continues here."]


def test_without_typer_it_says_what_to_install():
    program = "import sys; sys.modules['typer'] = None; import equipoise.cli"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False)  # fmt: skip
    assert result.returncode != 0
    assert result.stderr.splitlines() == [
        'The command line needs more packages: pip install "equipoise[compare]"'
    ]


@pytest.mark.parametrize("package", ["plotly", "sklearn", "rich"])
def test_without_another_extra_it_says_what_to_install(package):
    hidden = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        f"u.find_spec = lambda name: None if name == {package!r} else find(name)\n"
        "from equipoise.cli import main; sys.exit(main(['compare']))"
    )
    result = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False)  # fmt: skip
    assert result.returncode == 2
    assert 'pip install "equipoise[compare]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def recorded(tmp_path):
    """Two folders with the records of trainings."""
    weight = torch.tensor([2.0, 1.0], requires_grad=True)
    for name, kind in (("a", eq.GradNorm), ("b", eq.Equal)):
        balancer = kind(["near", "far"])
        with eq.Recorder(balancer, tmp_path / name, every=1, measure=1):
            for _ in range(3):
                balancer.backward({"near": weight.square().sum(), "far": weight.exp().sum()})
    return tmp_path


def test_report_writes_the_page_of_a_record_into_its_folder(recorded):
    result = CliRunner().invoke(app, ["report", str(recorded / "a")])
    assert result.exit_code == 0, result.output
    assert "GradNorm, 3 steps" in (recorded / "a" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("out", [None, "elsewhere.html"])
def test_report_puts_several_records_on_one_page(recorded, out):
    request = ["report", str(recorded / "a"), str(recorded / "b")]
    request += [] if out is None else ["--out", str(recorded / out)]
    assert CliRunner().invoke(app, request).exit_code == 0
    page = (recorded / (out or "report.html")).read_text(encoding="utf-8")
    assert "<strong>a</strong>: GradNorm" in page
    assert "<strong>b</strong>: Equal" in page


def test_watch_shows_a_record_once_where_there_is_no_terminal(recorded):
    result = CliRunner().invoke(app, ["watch", str(recorded / "a")], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert "GradNorm  step 2" in result.output
    assert "near" in result.output


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("watch nowhere", "nowhere/record.jsonl holds no record yet"),
        ("report a nowhere", "nowhere/record.jsonl holds no record yet"),
        ("report a --out a/record.jsonl/page.html", "page.html cannot be written"),
        ("report nowhere --out page.html", "stands in its folder"),
    ],
)
def test_a_record_that_is_not_there_is_told_in_a_line(
    recorded, request_, message, monkeypatch, capsys
):
    monkeypatch.chdir(recorded)
    assert main(request_.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_watch_follows_a_training_in_a_real_terminal_until_ctrl_c(recorded):
    """The command in a pseudo-terminal, while another process would write."""
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "watch", str(recorded / "a")],
        env=environment,
        stdout=child,
        stderr=child,
        stdin=child,
    )
    os.close(child)
    seen = read_until(parent, "step 2")
    path = recorded / "a" / "record.jsonl"
    last = json.loads(path.read_text().splitlines()[-1])
    with path.open("a") as file:
        file.write(json.dumps({**last, "step": 7}) + "\n")
    seen += read_until(parent, "step 7")
    process.send_signal(signal.SIGINT)
    read_until(parent, None)
    assert process.wait(timeout=60) == 130
    assert "Traceback" not in seen
    os.close(parent)


def read_until(terminal: int, text: str | None) -> str:
    """What a terminal shows, up to some text or its end."""
    seen = ""
    while text is None or text not in seen:
        try:
            found = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            found = b""
        if not found:
            assert text is None, seen
            break
        seen += found.decode(errors="replace")
    return seen


def test_diagnose_prints_a_verdict_and_leaves_a_page(tmp_path):
    request = ["diagnose", SMALL, "--batches", "6", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, request, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "Verdict: " in result.output
    page = (tmp_path / "diagnosis.html").read_text(encoding="utf-8")
    assert "Two lines &amp; one &lt;plane&gt;." in page
    assert "plotly" in page


def test_diagnose_refuses_what_it_cannot_find(tmp_path, capsys):
    assert main(["diagnose", "digit", "--out", str(tmp_path)]) == 2
    assert "Did you mean" in capsys.readouterr().err


def test_compare_begins_with_the_diagnosis_and_keeps_it(tmp_path):
    request = ["compare", SMALL, "--balancers", METHODS, "--seeds", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, request, env={"COLUMNS": "120"})
    assert result.output.startswith("Diagnosis: ")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("The diagnosis before training") < page.index("<h2>Ranking</h2>")
    assert "he advice" in page
    kept = (tmp_path / "diagnosis.json").read_bytes()
    assert CliRunner().invoke(app, request).exit_code == 0
    assert (tmp_path / "diagnosis.json").read_bytes() == kept


TEN = "tests.benchmarks.small:ten_problem"
NARROW = {
    "list": ["list"],
    "list of one": ["list", "gradnorm"],
    "compare": ["compare", TEN, "--balancers", "equal,gradnorm:alpha=0.12:wrt=shared"],
    "diagnose": ["diagnose", TEN, "--batches", "3"],
    "bench": ["bench", "--balancers", "gradnorm:every=10", "--models", "conv", "--losses", "2"],
}
QUICK = {
    "compare": ["--seeds", "1", "--epochs", "1"],
    "bench": ["--rounds", "2"],
}


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("command", NARROW)
def test_no_table_loses_a_row_name_or_a_number(command, columns, tmp_path):
    request = [*NARROW[command], *QUICK.get(command, [])]
    request += [] if "list" in command else ["--out", str(tmp_path)]
    environment = {"COLUMNS": str(columns), "NO_COLOR": "1"}
    result = CliRunner().invoke(app, request, env=environment)
    assert result.exit_code == 0, result.output
    tables = [line for line in result.output.splitlines() if str(tmp_path) not in line]
    assert "…" not in result.output
    assert "\x1b" not in result.output
    assert max(map(len, tables)) <= columns or command in ("compare", "bench")  # whole sentences
    if command == "compare":
        _, weights = result.output.split("Weights at the end")
        blocks = [line for line in weights.splitlines() if line.startswith("gradnorm:alpha=0.12:")]
        assert len([word for line in blocks for word in line.split() if word[0].isdigit()]) == 10


def test_the_command_itself_keeps_to_the_columns_it_is_told(tmp_path):
    request = ["compare", TEN, "--balancers", METHODS, *QUICK["compare"], "--out", str(tmp_path)]
    shown = subprocess.run(
        [sys.executable, "-m", "equipoise.cli", *request],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "60", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (_, weights) = shown.stdout.split("Weights at the end")
    rows = [line.split() for line in weights.splitlines() if line.startswith("plain sum")]
    assert sum(len(row) - 2 for row in rows) == 10


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"equipoise {eq.__version__}\n"


def test_a_shell_completes_commands_and_options():
    def completed(words: str, place: int) -> str:
        asked = {"_EQUIPOISE_COMPLETE": "complete_bash", "COMP_WORDS": words}
        return subprocess.run(
            [sys.executable, "-m", "equipoise.cli"],
            cwd=ROOT,
            env={**os.environ, **asked, "COMP_CWORD": str(place)},
            capture_output=True,
            text=True,
            check=False,
        ).stdout

    assert completed("equipoise li", 1).split() == ["list"]
    assert completed("equipoise compare --see", 2).split() == ["--seeds"]


def test_a_problems_name_becomes_a_folder_that_every_system_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    request = ["diagnose", "tests.benchmarks.small:awkward_problem", "--batches", "2"]
    assert main(request) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a_b_ _c_"]

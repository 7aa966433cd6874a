"""The command line: `equipoise demo`, `compare`, `diagnose`, `report`, `watch`, `bench`, `list`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

try:
    import typer
except ModuleNotFoundError:  # This module is a program: it ends with a sentence, not a traceback.
    raise SystemExit(
        'The command line needs more packages: pip install "equipoise[compare]"'
    ) from None

if TYPE_CHECKING:
    from rich.console import Console

    from equipoise.benchmarks.compare.comparison import Comparison
    from equipoise.benchmarks.compare.plan import Plan
    from equipoise.benchmarks.compare.prepare import Prepared, Staff
    from equipoise.benchmarks.demo.parts import Part
    from equipoise.benchmarks.problem import Problem

# What all of typer's usage errors share has no public name of its own.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

FAILED = 1
INTERRUPTED = 130
WRONG_REQUEST = 2

app = typer.Typer(
    name="equipoise",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's frames cut examples where a terminal is narrow
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from equipoise import __version__

        typer.echo(f"equipoise {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool,
        typer.Option("--version", help="Shows the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """Balances the losses of a training, and compares the methods that do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: What stands after `equipoise` on the command line; by default the real ones.

    Returns:
        The exit code: 0, 1 for a failure underway, 2 for a request that cannot be carried out (one
        line on standard error says why), 130 after Ctrl-C.
    """
    try:
        words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
        return app(words, prog_name="equipoise", standalone_mode=False) or 0
    except _UsageError as error:
        return _refuse(getattr(error, "format_message", error.__str__)())
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (whatever a user's code raises)
        from equipoise.benchmarks.failure import told

        typer.echo(told(error), err=True, nl=False)
        return FAILED


def _refuse(message: str) -> int:
    _complain(f"equipoise: {' '.join(message.split())}")
    return WRONG_REQUEST


def _complain(sentence: str) -> None:
    """One line on standard error; a terminal, which would break it anywhere, is given several."""
    if sys.stderr.isatty():
        columns = get_terminal_size().columns
        sentence = fill(sentence, columns, break_long_words=False, break_on_hyphens=False)
    typer.echo(sentence, err=True)


@contextmanager
def _answering() -> Iterator[None]:
    """Answers a request that cannot be carried out, in place of a traceback."""
    from equipoise.benchmarks.refusal import RequestError
    from equipoise.monitor.history import RecordError

    try:
        yield
    except (RecordError, RequestError) as error:
        raise typer.Exit(_refuse(str(error))) from error


@app.command()
def compare(
    problem: Annotated[
        str,
        typer.Argument(
            help="A problem that `equipoise list` shows, your module:function, or a plan.yaml."
        ),
    ] = "digits",
    balancers: Annotated[
        str | None,
        typer.Option(
            help="Methods, separated by commas, options after colons, values to choose among "
            "between bars: equal,gradnorm:alpha=0|1.5; or all, or baselines. Default: the "
            "baselines and the problem's own choice."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many seeds (5) or which (3,8,12).")] = "10",
    epochs: Annotated[int | None, typer.Option(help="Default: the problem's.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="In place of epochs. Default: the problem's.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="In place of epochs: 600steps for all, or 30s for all, by their price."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: the problem's.")] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Learning rate, or several to choose among: 3e-4,1e-3. Default: the problem's."
        ),
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(
            help="adam, adamw, sgd, soap or muon; adam:beta2=0.95:forget_after=200 clears its "
            "moments once. Default: the problem's."
        ),
    ] = "",
    static: Annotated[
        int, typer.Option(help="Trials of static weights, the best on validation data is a row.")
    ] = 0,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train again with the weights that methods found.")
    ] = False,
    tuning_seeds: Annotated[
        int | None, typer.Option(help="Seeds to choose with. Default: all.")
    ] = None,
    goal: Annotated[
        float | None, typer.Option(help="A value of the metric; how often it is reached is shown.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of torch; small models gain nothing from more.")
    ] = 1,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that train side by side.")
    ] = 1,
    engine: Annotated[str, typer.Option(help="local, or ray for a Ray cluster.")] = "local",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: runs/<problem>.")
    ] = None,
) -> None:
    """Trains one problem with several balancers and seeds, and reports how they did.

    Finished runs are kept in results.jsonl; the same command again continues where it stopped.
    """
    with _answering():
        _require_extras()
        import torch

        from equipoise.benchmarks.compare.plan import Plan
        from equipoise.benchmarks.compare.prepare import Staff, prepare

        torch.set_num_threads(threads)
        sys.path.insert(0, str(Path.cwd()))  # a user's problem stands where the command is run
        staff = Staff(engine, workers, threads)
        written = Plan(
            problem=problem,
            balancers=balancers,
            seeds=seeds,
            epochs=epochs,
            steps=steps,
            budget=budget,
            batch_size=batch_size,
            lr=lr,
            optimizer=optimizer,
            static=static,
            retrain=retrain,
            tuning_seeds=tuning_seeds,
            goal=goal,
        )
        _run(prepare(_found_in_file(written), out), staff)


@app.command()
def demo(
    seeds: Annotated[
        str | None, typer.Option(help="How many seeds (2) or which (3,8). Default: 5 to 10.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of every run, to see that all works. Default: as it takes.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that train side by side.")
    ] = 2,
    out: Annotated[Path, typer.Option(help="Folder for the page and the results.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Trains four problems with the plain sum and several methods, and shows all on one page.

    Finished runs are kept; the same command again continues where it stopped.
    """
    with _answering():
        _require_extras()
        import torch

        from equipoise.benchmarks.compare.prepare import Staff, prepare
        from equipoise.benchmarks.demo.parts import PARTS

        torch.set_num_threads(1)
        parts = [part.shortened(seeds, steps) for part in PARTS]
        asked = [(part, prepare(part.plan, out / part.name)) for part in parts]
        _make_folder(out)
        _run_demo(asked, Staff("local", workers, threads=1), out)


@app.command()
def diagnose(
    problem: Annotated[
        str, typer.Argument(help="A problem that `equipoise list` shows, or your module:function.")
    ] = "digits",
    batches: Annotated[int, typer.Option(min=1, help="How many batches are looked at.")] = 20,
    batch_size: Annotated[int | None, typer.Option(help="Default: the problem's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides model and batches.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page. Default: runs/<problem>.")
    ] = None,
) -> None:
    """Looks at the gradients of a problem's losses, and says whether they need balancing."""
    with _answering():
        _require_extras()
        from equipoise.benchmarks.compare.request import TrainingOptions
        from equipoise.benchmarks.diagnose.page import write_page
        from equipoise.benchmarks.diagnose.problem import diagnose_problem
        from equipoise.pages.terminal import terminal

        chosen = _find_problem(problem)
        size = chosen.batch_size if batch_size is None else batch_size
        options = TrainingOptions(None, size, chosen.lr, steps=batches)
        folder = out or _folder_of(chosen)
        _make_folder(folder)
        found = diagnose_problem(chosen, options, seed, batches)
        terminal().print(found)
        typer.echo(f"\nPage: {write_page(folder, chosen, found)}")


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="The folder of a comparison, or those of recorders.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page. Default: report.html, in the folder or above several."),
    ] = None,
) -> None:
    """Writes the page of what lies in a folder: a comparison, or the record of a training.

    Several records stand on one page side by side.
    """
    with _answering():
        _require_extras()
        from equipoise.monitor.history import FILE_NAME

        if len(folders) > 1 or (folders[0] / FILE_NAME).exists():
            typer.echo(f"Report: {_report_records(folders, out)}")
        else:
            typer.echo(f"Report: {_report_comparison(folders[0], out)}")


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="The folder of a recorder.")],
) -> None:
    """Shows the record of a training in the terminal, while it is written; Ctrl-C ends it."""
    with _answering():
        _require_extras()
        from equipoise.monitor.watch import watch as look
        from equipoise.pages.terminal import terminal

        look(folder, terminal())


@app.command()
def bench(
    balancers: Annotated[
        str, typer.Option(help="Methods, as for compare: gradnorm,gradnorm:every=10,mtadam.")
    ] = "all",
    losses: Annotated[
        str | None, typer.Option(help="Numbers of losses: 2,5,10,20,50. Default: 10.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Of mlp, conv, transformer, pinn. Default: mlp,pinn.")
    ] = None,
    every: Annotated[
        str, typer.Option(help="For methods that look at gradients: each in turn, as 1,10.")
    ] = "1",
    wrt: Annotated[
        str | None,
        typer.Option(help="Where they look: shared, last_shared or representation."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(help="How many of T gradients they may hold at a time.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Turns of each step. Default: 7.")] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Measure installed other libraries side by side.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="All models, 2 to 50 losses, 15 rounds: hours.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("runs/bench"),
) -> None:
    """Measures what a step with each method costs: time, memory, backward passes."""
    with _answering():
        _require_extras()
        from equipoise.benchmarks.bench import request as read
        from equipoise.benchmarks.bench.cases import Knobs
        from equipoise.benchmarks.bench.console import show_bench

        preset = read.FULL if full else read.QUICK
        request = read.PriceRequest(
            methods=read.parse_priced_methods(balancers),
            losses=read.parse_counts("--losses", losses or preset.losses),
            models=read.parse_models(models or preset.models),
            rounds=preset.rounds if rounds is None else rounds,
            knobs=Knobs(read.parse_counts("--every", every), read.parse_wrt(wrt), rows),
            peers=peers,
            device=device,
        )
        _make_folder(out)
        show_bench(request, out)


@app.command(name="list")
def list_everything(
    method: Annotated[
        str | None, typer.Argument(help="Shows this method's options. Default: all, in short.")
    ] = None,
) -> None:
    """Shows the methods and the problems, or one method with its options."""
    with _answering():
        _require_extras()
        import os

        from equipoise.benchmarks.catalogue import catalogue, method_card
        from equipoise.pages.terminal import terminal

        console = terminal()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = 200  # a file or a pipe has no width to wrap at
        for part in catalogue() if method is None else method_card(method):
            console.print(part)
            console.print()


def _require_extras() -> None:
    from importlib.util import find_spec

    from equipoise.benchmarks.refusal import RequestError

    packages = {"rich": "rich", "plotly": "plotly", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise RequestError(f'{", ".join(missing)} is missing: pip install "equipoise[compare]"')


def _find_problem(name: str) -> Problem:
    from equipoise.benchmarks.problems import find_problem

    sys.path.insert(0, str(Path.cwd()))  # a user's problem stands where the command is run
    return find_problem(name)


def _found_in_file(written: Plan) -> Plan:
    """What a plan file says, where one was named; it says everything, or nothing would be sure."""
    from dataclasses import asdict

    from equipoise.benchmarks.compare.plan import Plan, read_plan
    from equipoise.benchmarks.refusal import RequestError

    if Path(written.problem).suffix not in {".yaml", ".yml"}:
        return written
    defaults = asdict(Plan(problem=written.problem))
    for name, value in asdict(written).items():
        if value != defaults[name]:
            option = name.replace("_", "-")
            raise RequestError(f"--{option} {value}: write it into {written.problem} instead.")
    return read_plan(Path(written.problem))


def _folder_of(problem: Problem) -> Path:
    from equipoise.pages.files import folder_name

    return Path("runs") / folder_name(problem.name)


def _report_comparison(folder: Path, out: Path | None) -> Path:
    from equipoise.benchmarks.compare.report import write_report
    from equipoise.benchmarks.refusal import RequestError

    if out is not None:
        raise RequestError(f"--out {out}: the page of a comparison stands in its folder.")
    return write_report(folder)


def _report_records(folders: Sequence[Path], out: Path | None) -> Path:
    import os

    from equipoise.monitor.history import read_history
    from equipoise.monitor.page import REPORT_NAME, write_page

    histories = [read_history(folder) for folder in folders]
    above = Path(os.path.commonpath([folder.absolute() for folder in folders]))
    return write_page(histories, out or (folders[0] if len(folders) == 1 else above) / REPORT_NAME)


def _run(prepared: Prepared, staff: Staff) -> None:
    from equipoise.pages.terminal import terminal

    console = terminal()
    stopped = _train(prepared, staff, console)
    _show(prepared, console)
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _train(prepared: Prepared, staff: Staff, console: Console) -> bool:
    """Runs what is not finished yet; returns whether Ctrl-C stopped it."""
    from equipoise.benchmarks.compare.checking import check, outdated
    from equipoise.benchmarks.compare.comparison import compare as run_comparison
    from equipoise.benchmarks.compare.diagnosis import diagnosed
    from equipoise.benchmarks.compare.live_bars import LiveBars
    from equipoise.benchmarks.compare.plan import write_plan
    from equipoise.pages.terminal import say

    comparison = prepared.comparison
    steps, earlier = check(comparison), outdated(comparison)
    _make_folder(comparison.folder)
    if earlier:
        say(console, earlier)
    say(console, diagnosed(comparison))
    write_plan(comparison.folder, prepared.plan)
    try:
        with LiveBars(comparison, steps, console) as bars:
            run_comparison(comparison, bars, staff.start(prepared))
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command continues here.", err=True)
        return True
    return False


def _run_demo(asked: Sequence[tuple[Part, Prepared]], staff: Staff, out: Path) -> None:
    """Part after part; a stop leaves a page of what is finished."""
    from equipoise.benchmarks.demo.page import read_findings, write_page
    from equipoise.pages.terminal import say, terminal

    console, stopped = terminal(), False
    for part, prepared in asked:
        say(console, f"\n{part.title}: {prepared.comparison.problem.description}")
        stopped = _train(prepared, staff, console)
        if prepared.comparison.has_result():
            say(console, _report_part(part, prepared.comparison))
        if stopped:
            break
    if findings := read_findings(asked):
        console.print(f"\nThe page: {write_page(out, findings)}", soft_wrap=True)
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _report_part(part: Part, comparison: Comparison) -> str:
    """Writes a part's whole report; returns what is said of it in the terminal."""
    from equipoise.benchmarks.compare.reading import read_standings
    from equipoise.benchmarks.compare.report import write_report
    from equipoise.benchmarks.demo.findings import finding, sentence

    rows = read_standings(comparison.folder, comparison.experiment)
    write_report(comparison.folder, rows)
    return sentence(finding(part, rows))


def _make_folder(folder: Path) -> None:
    from equipoise.benchmarks.refusal import RequestError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {folder} cannot be made: {error.strerror}.") from error


def _show(prepared: Prepared, console: Console) -> None:
    from equipoise.benchmarks.compare.console import details_table, ranking_table, weights_table
    from equipoise.benchmarks.compare.reading import read_standings
    from equipoise.benchmarks.compare.report import write_report
    from equipoise.benchmarks.compare.sentences import verdict
    from equipoise.pages.terminal import say

    comparison = prepared.comparison
    if not comparison.has_result():
        return  # stopped before there was one
    rows = read_standings(comparison.folder, comparison.experiment)
    console.print(ranking_table(rows))
    if details := details_table(rows, prepared.plan.goal):
        console.print(details)
    say(console, verdict(rows))
    console.print(weights_table(rows))
    console.print(f"Report: {write_report(comparison.folder, rows)}", soft_wrap=True)


for _command in app.registered_commands:  # a summary that is not given is cut after 45 letters
    _command.short_help = (_command.callback.__doc__ or "").partition("\n")[0]

if __name__ == "__main__":
    raise SystemExit(main())

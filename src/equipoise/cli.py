"""The command line: `equipoise compare`, `diagnose`, `report`, `watch`, `bench` and `list`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import typer
except ModuleNotFoundError:  # This module is a program: it ends with a sentence, not a traceback.
    raise SystemExit(
        'The command line needs more packages: pip install "equipoise[compare]"'
    ) from None

if TYPE_CHECKING:
    from rich.console import Console

    from equipoise.benchmarks.compare.plan import Plan
    from equipoise.benchmarks.compare.prepare import Prepared, Staff
    from equipoise.benchmarks.problem import Problem

# What all of typer's usage errors share has no public name of its own.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

INTERRUPTED = 130
WRONG_REQUEST = 2

app = typer.Typer(
    name="equipoise",
    pretty_exceptions_enable=False,
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
        The exit code: 0, 2 for a request that cannot be carried out (one line on standard error
        says why), 130 after Ctrl-C.
    """
    try:
        words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
        return app(words, prog_name="equipoise", standalone_mode=False) or 0
    except _UsageError as error:
        return _refuse(getattr(error, "format_message", error.__str__)())
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED


def _refuse(message: str) -> int:
    typer.echo(f"equipoise: {' '.join(message.split())}", err=True)
    return WRONG_REQUEST


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
        from rich.console import Console

        from equipoise.benchmarks.compare.request import TrainingOptions
        from equipoise.benchmarks.diagnose.page import write_page
        from equipoise.benchmarks.diagnose.problem import diagnose_problem

        chosen = _find_problem(problem)
        size = chosen.batch_size if batch_size is None else batch_size
        options = TrainingOptions(None, size, chosen.lr, steps=batches)
        folder = out or _folder_of(chosen)
        _make_folder(folder)
        found = diagnose_problem(chosen, options, seed, batches)
        Console().print(found)
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
        from rich.console import Console

        from equipoise.monitor.watch import watch as look

        look(folder, Console())


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

        from rich.console import Console

        from equipoise.benchmarks.catalogue import catalogue, method_card

        console = Console()
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(width=200)  # a file or a pipe has no width to wrap at
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
    from rich.console import Console

    from equipoise.benchmarks.compare.checking import check, outdated
    from equipoise.benchmarks.compare.comparison import compare as run_comparison
    from equipoise.benchmarks.compare.diagnosis import diagnosed
    from equipoise.benchmarks.compare.live_bars import LiveBars
    from equipoise.benchmarks.compare.plan import write_plan

    comparison, console = prepared.comparison, Console()
    steps, earlier = check(comparison), outdated(comparison)
    _make_folder(comparison.folder)
    if earlier:
        console.print(earlier, soft_wrap=True)
    console.print(diagnosed(comparison), soft_wrap=True, markup=False)
    write_plan(comparison.folder, prepared.plan)
    try:
        with LiveBars(comparison, steps, console) as bars:
            run_comparison(comparison, bars, staff.start(prepared))
    except KeyboardInterrupt:
        typer.echo("Stopped; the same command continues here.", err=True)
        _show(prepared, console)
        raise typer.Exit(INTERRUPTED) from None
    _show(prepared, console)


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

    comparison = prepared.comparison
    if not comparison.has_result():
        return  # stopped before there was one
    rows = read_standings(comparison.folder, comparison.experiment)
    console.print(ranking_table(rows))
    if details := details_table(rows, prepared.plan.goal):
        console.print(details)
    console.print(verdict(rows), soft_wrap=True, markup=False)
    console.print(weights_table(rows))
    console.print(f"Report: {write_report(comparison.folder, rows)}", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())

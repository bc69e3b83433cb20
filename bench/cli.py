"""The command line."""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import machine, peers, runner, tools
from bench.interrupts import Interrupted, Interrupts
from bench.peers import Placement
from bench.report import as_json, as_markdown
from bench.results import Report
from bench.scenarios import QUICK, SCENARIOS, select

OK, PROBLEMS, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
_RESULTS = Path(__file__).with_name("results")


def main(arguments: list[str]) -> int:
    """Run; 0 when all answers were right, 1 when some were not, 2 when nothing could run."""
    options = _parser().parse_args(arguments)
    if options.check_tools:
        print(tools.report())
        return PROBLEMS if tools.missing() else OK
    if options.list:
        print("\n".join(f"{s.name:16} {s.title}" for s in SCENARIOS))
        return OK
    try:
        tools.require("memcaslap")
        report, settings = _prepare(options)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    return _run(report, settings, options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, help="rounds of each scenario (default 3)")
    add("--seconds", type=int, help="seconds of each run (default 5)")
    add("--only", action="append", metavar="SCENARIO", help="name or pattern; may be repeated")
    add("--peers", default=",".join(peers.USUAL), help=f"of {', '.join(peers.STARTERS)}")
    add("--quick", action="store_true", help="a few scenarios, one round of 2 seconds")
    add("--pin", choices=["none", "split"], default="none", help="see README.md")
    add("--redcouch-option", action="append", default=[], metavar="OPTION")
    add("--output", type=Path, default=_RESULTS, metavar="DIR", help="where the report is stored")
    add("--list", action="store_true", help="list the scenarios and end")
    add("--check-tools", action="store_true", help="say which Debian packages are missing and end")
    return parser


def _prepare(options: argparse.Namespace) -> tuple[Report, runner.Settings]:
    """The empty report and the settings. Raises ValueError for what cannot be."""
    wanted = options.peers.split(",")
    if unknown := set(wanted) - set(peers.STARTERS):
        raise ValueError(f"no peer is called {', '.join(sorted(unknown))}")
    troubles = {name: trouble for name in wanted if (trouble := peers.trouble(name))}
    able = tuple(name for name in wanted if name not in troubles)
    if not able:
        raise ValueError(f"no peer can run: {troubles}")
    placement = Placement() if options.pin == "none" else _split()
    settings = runner.Settings(
        peers=able,
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (2 if options.quick else 5),
        placement=placement,
        redcouch_options=tuple(options.redcouch_option),
    )
    shown = {"rounds": str(settings.rounds), "seconds": str(settings.seconds), "pin": options.pin}
    if settings.redcouch_options:
        shown["RedCouch options"] = " ".join(settings.redcouch_options)
    report = Report(machine.facts(), shown)
    report.scenarios = select(options.only or (list(QUICK) if options.quick else ["*"]))
    report.skipped = [f"{name}: {trouble}" for name, trouble in troubles.items()]
    return report, settings


def _split() -> Placement:
    """The server alone on the first core, and everything else on the second."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ValueError("--pin split needs two cores")
    return Placement(server=cores[0], others=cores[1])


def _run(report: Report, settings: runner.Settings, folder: Path) -> int:
    interrupts = Interrupts()
    interrupts.install()
    for line in report.skipped:
        _say(f"skipped {line}")
    status = OK
    try:
        runner.run(report, settings, interrupts, _say)
    except Interrupted:
        _say("interrupted: what was measured so far is reported")
        report.settings["complete"] = "no, interrupted"
        status = INTERRUPTED
    with interrupts.held():
        _store(report, folder)
    print(as_markdown(report))
    return status or (PROBLEMS if report.problems else OK)


def _store(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = datetime.now(UTC).strftime("bench-%Y%m%d-%H%M%S")
    (folder / f"{stem}.json").write_text(as_json(report))
    (folder / f"{stem}.md").write_text(as_markdown(report))
    _say(f"stored {folder / stem}.json and .md")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

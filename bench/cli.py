"""The command line."""

import argparse
import os
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import bench
from bench import machine, runner, tools
from bench.interrupts import Interrupted, Interrupts
from bench.names import USUAL
from bench.peers import STARTERS, Placement, trouble
from bench.report import as_json, as_markdown
from bench.results import Report
from bench.scenarios import QUICK, SCENARIOS, WITH_GOALS, Tool, select

OK, PROBLEMS, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
_RESULTS = Path(__file__).with_name("results")


def main(arguments: list[str]) -> int:
    """Run; 0 when all answers were right, 1 when some were not, 2 when nothing could run."""
    options = _parser().parse_args(arguments)
    if options.check_tools:
        print(tools.report())
        return PROBLEMS if tools.missing() else OK
    if options.list:
        for scenario in SCENARIOS:
            beside = "" if scenario.peers == USUAL else f" ({', '.join(scenario.peers)})"
            print(f"{scenario.name:16} {scenario.title}{beside}")
        print(f"Peers where none are named: {', '.join(USUAL)}")
        return OK
    try:
        report, settings = _prepare(options)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    return _run(report, settings, options.output, _stem(options.reference))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=bench.__doc__)
    add = parser.add_argument
    add("--rounds", type=_positive, help="rounds of each scenario (default 3)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=_positive, help="seconds of each run (default 5)")
    length.add_argument("--minutes", type=_positive, help="about how long all may take together")
    add("--only", action="append", metavar="SCENARIO", help="name or pattern; may be repeated")
    add("--goals", action="store_true", help="the scenarios that have a goal")
    add("--quick", action="store_true", help="a few scenarios, one round of 2 seconds")
    add("--peers", help=f"of {', '.join(STARTERS)}; default: those that --list names")
    add("--pin", choices=["none", "split"], default="none", help="see README.md")
    add(
        "--redcouch-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="one of twistd redcouch, as in --redcouch-option=--workers=2; may be repeated",
    )
    add("--output", type=Path, default=_RESULTS, metavar="DIR", help="where the report is stored")
    add("--reference", action="store_true", help="name the report after RedCouch's version")
    add("--list", action="store_true", help="list the scenarios and their peers, and end")
    add("--check-tools", action="store_true", help="say which Debian packages are missing and end")
    return parser


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 is wanted")
    return int(word)


def _stem(reference: bool) -> str:
    """The name of the report's files."""
    if reference:
        return metadata.version("redcouch")
    return datetime.now(UTC).strftime("bench-%Y%m%d-%H%M%S")


def _prepare(options: argparse.Namespace) -> tuple[Report, runner.Settings]:
    """The empty report and the settings. Raises ValueError for what cannot be."""
    named = tuple(dict.fromkeys(options.peers.split(","))) if options.peers else None
    if unknown := set(named or ()) - set(STARTERS):
        raise ValueError(f"no peer is called {', '.join(sorted(unknown))}")
    scenarios = select(_patterns(options))
    wanted = dict.fromkeys(n for scenario in scenarios for n in scenario.peers_among(named))
    troubles = {name: said for name in wanted if (said := trouble(name))}
    settings = runner.Settings(
        named=named,
        unable=frozenset(troubles),
        rounds=options.rounds or (1 if options.quick else 3),
        seconds=options.seconds or (2 if options.quick else 5),
        placement=Placement() if options.pin == "none" else _split(),
        redcouch_options=tuple(options.redcouch_option),
    )
    measured = [scenario for scenario in scenarios if settings.peers(scenario)]
    if not measured:
        raise ValueError("no peer can run: " + "; ".join(_lines(troubles)))
    if any(scenario.tool is Tool.MEMCASLAP for scenario in measured):
        tools.require("memcaslap")
    if options.minutes:
        settings = settings.within(options.minutes, measured)
    shown = {"rounds": str(settings.rounds), "seconds": str(settings.seconds), "pin": options.pin}
    if settings.redcouch_options:
        shown["RedCouch options"] = " ".join(settings.redcouch_options)
    report = Report(machine.facts(), shown, measured)
    report.skipped = _lines(troubles)
    report.skipped += [f"{s.name}: none of its peers" for s in scenarios if s not in measured]
    return report, settings


def _patterns(options: argparse.Namespace) -> list[str]:
    """What was asked for: --only, --goals and --quick together, or all."""
    patterns = list(options.only or ())
    if options.goals:
        patterns += WITH_GOALS
    if options.quick and not patterns:
        patterns += QUICK
    return patterns or ["*"]


def _lines(troubles: dict[str, str]) -> list[str]:
    return [f"{name}: {said}" for name, said in troubles.items()]


def _split() -> Placement:
    """The server alone on the first core, and everything else on the second."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ValueError("--pin split needs two cores")
    return Placement(server=cores[0], others=cores[1])


def _run(report: Report, settings: runner.Settings, folder: Path, stem: str) -> int:
    interrupts = Interrupts()
    interrupts.install()
    for line in report.skipped:
        _say(f"skipped {line}")
    minutes = settings.duration(report.scenarios) / 60
    _say(f"{settings.runs(report.scenarios)} runs, about {minutes:.0f} minutes")
    status = OK
    try:
        runner.run(report, settings, interrupts, _say)
    except Interrupted:
        _say("interrupted: what was measured so far is reported")
        report.settings["complete"] = "no, interrupted"
        status = INTERRUPTED
    with interrupts.held():
        _store(report, folder, stem)
    print(as_markdown(report))
    return status or (PROBLEMS if report.problems else OK)


def _store(report: Report, folder: Path, stem: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", as_json(report)), (".md", as_markdown(report))):
        (folder / (stem + suffix)).write_text(text)
    _say(f"stored {folder / stem}.json and .md")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

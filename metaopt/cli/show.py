"""`metaopt show`: what a schedule file is."""

from pathlib import Path
from typing import Annotated

import typer


def show(
    file: Annotated[str, typer.Argument(help="A schedule.json, or the name of one that ships.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write. [default: beside the file, or here]")] = None,
) -> None:
    """Say what a schedule is and where it comes from, and draw it as PNG.

    [bold]Examples[/bold]

      metaopt show runs/smoke/best_schedule.json

      metaopt show best.json --out curve.png
    """
    from metaopt.analysis.figures import draw_schedules
    from metaopt.schedules import find_family, load_schedule

    artifact = load_schedule(file)
    family = find_family(artifact.family)
    kind = "closed-loop: reads live signals" if family.closed_loop else "open-loop: reads progress alone"
    lines = [f"{file}: a schedule of family {family.name} ({kind})", f"  {family.source}", ""]
    meanings = {parameter.name: parameter.meaning for parameter in family.parameters}
    lines += [f"  {name:<14} {value:<12.6g} {meanings[name]}" for name, value in artifact.params.items()]
    lines += ["", f"  trained on     {', '.join(artifact.trained_on) or 'not stated'}"]
    if artifact.budget is not None:
        lines.append(f"  budget         {artifact.budget:g} iterations")
    if artifact.score is not None:
        lines.append(f"  score          {artifact.score:+.4f} (ln FID / reference FID over the tasks; lower is better)")
    lines += [f"  {'':<14} {score:+.4f} {name}" for name, score in artifact.baselines.items()]
    lines += [f"  {key:<14} {value}" for key, value in artifact.provenance.items()]
    note = "drawn for a balanced game, as it reads live signals" if family.closed_loop else ""
    picture = draw_schedules(out or Path(file).with_suffix(".png"), {Path(file).name: artifact}, note=note)
    typer.echo("\n".join([*lines, "", f"  drawn in {picture}"]))

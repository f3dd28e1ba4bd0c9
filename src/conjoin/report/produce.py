"""Write the run folder: ``run.json``, rows, tensors, the plan, and the report made from them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import parquet

from conjoin.core.protocols import Observer
from conjoin.core.quantity import margin
from conjoin.core.result import Verdict, replace_file, save_tensors
from conjoin.core.run import versions
from conjoin.report.audit import Measured, measure
from conjoin.report.findings import find, standings
from conjoin.report.plan import AuditPlan
from conjoin.report.render import render
from conjoin.report.schema import CostRecord, Run, StandardRecord
from conjoin.report.sources import draw, load_data, load_subject, unique_names
from conjoin.report.summary import (
    broken,
    data_record,
    example_records,
    hardware,
    model_result,
    right,
    verdicts,
)
from conjoin.report.workspace import Workspace, write_text

LIMITS = (
    "Robust accuracy under attack is an upper bound: it counts what one attack with one budget left "
    "standing. A stronger attack can only lower it.",
    "Certified accuracy is a lower bound and says nothing where it is low: the bounds are loose for "
    "networks that were not trained for them.",
    "Certificates hold for the stored weights: those marked sound-deployed also for the network as it "
    "is computed in its own precision, those marked sound-real in real arithmetic only. Changes of "
    "precision, Winograd, FFT or TF32 kernels and preprocessing are not covered.",
    "Both bounds concern the stated sets of changes only: not other norms, larger changes, "
    "rotations, occlusions, other data or a shift of the distribution.",
    "Intervals are for the population the examples were drawn from, if they were drawn at random.",
    "An attribution shows what the model's output responds to, not what is true of the world, and "
    "depends on its baseline. Scores of explanations are heuristics.",
    "Thresholds behind the verdicts are conventions; the numbers, not the colours, are the evidence.",
)
STANDARDS = (
    ("ISO/IEC 24029-2", "stability", "certified and robust accuracy per threat: does the answer "
     "hold in a neighbourhood of each input?"),
    ("ISO/IEC 24029-2", "sensitivity", "certified radius and smallest adversarial distance; the "
     "per-pair Lipschitz constants behind them"),
    ("ISO/IEC 24029-2", "relevance", "attributions, mass inside the marked region, accuracy with it "
     "blanked"),
    ("ISO/IEC 24029-2", "reachability", "interval bounds of the outputs over the set of changes "
     "(evidence for the margin only)"),
    ("NIST AI RMF", "MEASURE 2.5 (valid and reliable)", "clean accuracy with its confidence "
     "interval, and its limits"),
    ("NIST AI RMF", "MEASURE 2.7 (secure and resilient)", "robust accuracy under attack and "
     "certified accuracy"),
    ("NIST AI RMF", "MEASURE 2.9 (explained and interpreted)", "attributions with scores of their "
     "faithfulness and stability"),
)  # fmt: skip
FILES = {
    "report.html": "the report, for a person",
    "run.json": "manifest and results, for a machine (this file)",
    "plan.toml": "the resolved plan; `conjoin audit --plan plan.toml` repeats the run",
    "rows/examples.parquet": "one row per model, threat and example",
    "rows/scores.parquet": "one row per model, explanation, score and example",
    "tensors/examples.safetensors": "the explained inputs, their positions and labels",
    "tensors/attributions-MODEL.safetensors": "explanations of the explained inputs",
    "tensors/adversarial-MODEL.safetensors": "the nearest adversarial input found, per threat",
}


def audit(
    plan: AuditPlan,
    workspace: Workspace,
    *,
    batch_size: int = 128,
    observe: Observer | None = None,
) -> Path:
    """Carry out the plan in the folder and return the path of the report.

    Raises:
        ConjoinError: If plan, models or data cannot be used; what was computed is kept.
    """
    start = time.perf_counter()
    whole = load_data(plan.data)
    data = draw(whole, plan.limit, plan.seed)
    subjects = unique_names([load_subject(text) for text in plan.models])
    measured = measure(
        plan, subjects, data, len(whole), workspace, batch_size=batch_size, observe=observe
    )
    folder = workspace.folder
    _write_rows(measured, folder / "rows")
    _write_tensors(measured, folder / "tensors")
    run = _summarise(measured, time.perf_counter() - start)
    report = folder / "report.html"
    write_text(report, render(run, folder))
    write_text(folder / "run.json", run.model_dump_json(indent=1))  # last: it marks completion
    workspace.tidy()
    return report


def _summarise(measured: Measured, seconds: float) -> Run:
    data = data_record(measured)
    models = tuple(model_result(measured, m) for m in measured.models.values())
    return Run(
        plan=measured.plan.model_dump(mode="json"),
        plan_sha256=measured.plan.fingerprint(),
        versions=versions(),
        data=data,
        models=models,
        standings=tuple(standings(models)),
        findings=tuple(finding.record() for finding in find(models, data)),
        examples=tuple(example_records(measured)),
        limits=LIMITS,
        standards=tuple(StandardRecord(standard=s, term=t, evidence=e) for s, t, e in STANDARDS),
        files=FILES,
        cost=CostRecord(
            seconds=seconds,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            hardware=hardware(),
        ),
    )


def _write_rows(measured: Measured, folder: Path) -> None:
    data, rows = measured.data, []
    for name, measures in measured.models.items():
        ok, clean = right(measures, data.y), margin(measures.outputs, data.y)
        for text, found in measures.robustness.items():
            eps = float(found.threat.eps)
            fallen = broken(found, ok, eps)
            for i, verdict in enumerate(verdicts(found, ok)):
                distance = float(found.distance[i])
                rows.append(
                    {
                        "model": name,
                        "threat": text,
                        "norm": found.threat.name,
                        "eps": eps,
                        "id": data.ids[i],
                        "index": int(data.positions[i]),
                        "label": int(data.y[i]),
                        "prediction": int(measures.outputs[i].argmax()),
                        "margin": float(clean[i]),
                        "margin_lower_bound": float(found.lower[i]),
                        "attacked": bool(fallen[i]),
                        "distance_found": distance if distance < float("inf") else None,
                        "certified_radius": float(found.radius[i]),
                        "verdict": verdict.value,
                        "reason": _reason(verdict, bool(ok[i]), float(found.lower[i])),
                        "attacked_evidence": f"empirical: {found.attack}",
                        "certified_evidence": f"certified: {found.certifier}",
                    }
                )
    _write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    scores = [
        {
            "model": name,
            "explanation": explanation,
            "metric": metric,
            "id": data.ids[position],
            "value": value,
        }
        for name, measures in measured.models.items()
        for (explanation, metric), values in measures.scores.items()
        for position, value in zip(measured.explained.tolist(), values.tolist(), strict=True)
    ]
    columns = ("model", "explanation", "metric", "id")
    schema = pa.schema([*((c, pa.string()) for c in columns), ("value", pa.float64())])
    _write_table(pa.Table.from_pylist(scores, schema=schema), folder / "scores.parquet")


def _reason(verdict: Verdict, ok: bool, lower: float) -> str:
    if verdict is Verdict.CERTIFIED:
        return f"the margin is proved to stay above {max(lower, 0.0):.3g}"
    if verdict is Verdict.FALSIFIED:
        return "an adversarial input was found" if ok else "wrong without any change"
    proved = "no certificate applies" if lower == float("-inf") else f"the bound is {lower:.3g}"
    return f"the attack found nothing; {proved}"


def _write_table(table: pa.Table, path: Path) -> None:
    replace_file(path, lambda temporary: parquet.write_table(table, temporary))


def _write_tensors(measured: Measured, folder: Path) -> None:
    shown = measured.explained
    examples = {
        "x": measured.data.x[shown],
        "y": measured.data.y[shown],
        "index": measured.data.positions[shown],
    }
    if measured.data.watched is not None:
        examples["region"] = measured.data.region(measured.data.watched)
    save_tensors(examples, folder / "examples.safetensors", {"kind": "examples"})
    for name, measures in measured.models.items():
        save_tensors(
            measures.attributions, folder / f"attributions-{name}.safetensors", {"model": name}
        )
        nearest = {text: found.inputs for text, found in measures.robustness.items()}
        nearest["index"] = torch.as_tensor(measured.data.positions)
        save_tensors(nearest, folder / f"adversarial-{name}.safetensors", {"model": name})

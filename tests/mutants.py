"""Deliberate defects, one line each: do the tests find them?

Every mutant is a patch of one place in ``src/conjoin``, with the tests that should fail under it. Each
is applied to a copy of the repository in a temporary folder, so the working tree is never written
to. A patch whose old text does not occur exactly once is an error, so that the list cannot rot; so is
a test that fails without any patch. Survivors are listed: those with a ``reason`` are equivalent to
the original, or accepted; any other means that a test is missing, and the exit status is 1.

Run ``make mutants``, or ``python tests/mutants.py --match secant`` for some. Slow, and not part of CI.
"""

# ruff: noqa: T201 - a program that prints; a line of the sources stays one line
from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# Imported here for the children that are forked: it takes longer than most of the tests.
import hypothesis.strategies
import numpy as np
import pytest
import safetensors.torch
import scipy.optimize
import scipy.stats
import torch.fx

PRELOADED = (hypothesis, np, safetensors, scipy, torch)
ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "pyproject.toml")
TIMEOUT = 300.0  # seconds for the tests of one mutant; a mutant that hangs is found
FAILED = 1  # pytest's exit status where a test fails

ATTACKS = "tests/reference/test_attacks.py"
ATTRIBUTION = "tests/reference/test_attribution.py"
SWEEP = "tests/unit/audit/test_robustness.py"
BOUNDARY = "tests/reference/test_boundary.py"
EXACT = "tests/reference/test_exact_boundary.py"
RECTIFIED = "tests/reference/test_rectified.py"
JACOBIAN = "tests/reference/test_jacobian.py"
FEATURES = "tests/reference/test_features.py"
CERTIFICATES = "tests/reference/test_certificates.py"
LINEAR_BOUNDS = "tests/reference/test_linear_bounds.py"
LADDER = "tests/reference/test_ladder.py"
HALVING = "tests/reference/test_halving.py"
SPLIT = "tests/reference/test_split.py"
TEXTS = "tests/unit/audit/test_texts_attacked.py"
RECURRENT = "tests/unit/models/test_models_recurrent.py"
SECOND = "tests/unit/models/test_models_second.py"
SEVERAL = "tests/reference/test_several_quantities.py"
BOUNDS_ON_GRAPHS = "tests/property/test_bounds_on_graphs.py"
HEAD = "tests/reference/test_head.py"
INFLUENCE = "tests/reference/test_influence.py"
CORRUPTIONS = "tests/unit/data/test_data_corruptions.py"
DATA = "tests/unit/data/test_data_dataset.py"
DISGUISED = "tests/unit/models/test_models_disguised.py"
EXPLANATION_ATTACKS = "tests/reference/test_explanation_attacks.py"
EXPLANATION_CERTIFICATES = "tests/reference/test_explanation_certificates.py"
GEOMETRY = "tests/reference/test_geometry.py"
SMOOTHNESS = "tests/reference/test_smoothness.py"
EVALUATION = "tests/unit/audit/test_evaluation.py"
AGREEMENT = "tests/unit/audit/test_agreement.py"
DECISION = "tests/reference/test_decision.py"
PROVED = "tests/unit/audit/test_proved.py"
BESIDE = "tests/unit/audit/test_beside.py"
RESEMBLANCE = "tests/reference/test_resemblance.py"
WITHSTOOD = "tests/unit/audit/test_withstood.py"
EXPLAIN = "tests/unit/audit/test_explain.py"
INSIDE = "tests/unit/audit/test_inside.py"
MEANS = "tests/unit/audit/test_means.py"
DIRECTED = "tests/reference/test_directed.py"
DEPLOYED = "tests/reference/test_deployed.py"
GRAPHS = "tests/property/test_graphs.py"
HELD = "tests/unit/models/test_models_held.py"
NEAREST = "tests/reference/test_minimum_norm.py"
NORMS = "tests/reference/test_norms.py"
PROJECTION = "tests/property/test_projection.py"
QUANTISED = "tests/reference/test_quantised.py"
QUANTITY = "tests/unit/core/test_quantity.py"
RANDOM = "tests/unit/core/test_random.py"
ROBUSTNESS = "tests/unit/test_corruption_table.py"
RUN = "tests/unit/core/test_run.py"
SECANT = "tests/unit/models/test_models_secant.py"
SEMANTIC = "tests/reference/test_semantic.py"
SOUND = "tests/property/test_soundness.py"
STRANGERS = "tests/unit/core/test_strangers.py"
THREAT = "tests/property/test_threat.py"
TOKENS = "tests/reference/test_tokens.py"
SUBSTITUTION = "tests/unit/core/test_substitution.py"
LOUDNESS = "tests/unit/core/test_loudness.py"
HEARD = "tests/reference/test_sound.py"
RANDOMISED = "tests/unit/models/test_models_randomised.py"
SURROGATE = "tests/unit/models/test_models_surrogate.py"
UNSEEN = "tests/property/test_unseen.py"
ENSEMBLE = "tests/reference/test_ensemble.py"
SMOOTHED = "tests/unit/models/test_smoothed.py"
PLANE = "tests/property/test_hyperplane.py"
PERTURBATION = "tests/reference/test_perturbation.py"
SCORES = "tests/reference/test_scores.py"
AXIOMS = "tests/unit/test_axioms.py"
DIAGNOSIS = "tests/unit/attacks/test_diagnosis.py"
BACKWARDS = "tests/reference/test_propagation.py"
RELEVANCE = "tests/reference/test_relevance.py"
DOUBTED = "tests/unit/audit/test_doubted.py"
ONNX = "tests/unit/models/test_models_onnx.py"
VNNLIB = "tests/unit/data/test_data_vnnlib.py"
PROPERTIES = "tests/reference/test_verification.py"
FILES = "tests/property/test_certificate_files.py"
EXPORT = "tests/reference/test_export.py"


@dataclass(frozen=True)
class Mutant:
    """A defect.

    Attributes:
        name: What is wrong.
        file: Below ``src/conjoin``.
        old, new: The patch; ``old`` occurs once.
        tests: Test files or functions, each as pytest takes it, that should find it.
        reason: Why it may survive; empty if it must not.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    reason: str = ""


def case(name: str) -> str:
    """The test of one network of ``tests/cases``, by both methods' ids."""
    return f"{SOUND}::test_a_network_is_bounded_rightly_or_refused[{name}]"


LOOKS = "tests/unit/plots/test_looks.py"
TEXT = "tests/unit/plots/test_text.py"
SEEN = "tests/reference/test_seen.py"
PHOTOGRAPHS = "tests/unit/data/test_data_photographs.py"
EXPLAINED_PHOTOGRAPH = "tests/integration/test_explain_photograph.py"

JOINED = (
    Mutant(
        "the estimate forgets its mean",
        "attacks/decision.py",
        "return total - column(level, z) * mean",
        "return total",
        (DECISION,),
    ),
    Mutant(
        "a step leads away",
        "attacks/decision.py",
        "sign, step = torch.where(fools, 1.0, -1.0).to(z.dtype), there - z",
        "sign, step = torch.where(fools, -1.0, 1.0).to(z.dtype), there - z",
        (DECISION,),
    ),
    Mutant(
        "who has a start is looked at further",
        "attacks/decision.py",
        "self.free.project(x + WILD * 2.0 ** (number / 2) * noise, x), lacking",
        "self.free.project(x + WILD * 2.0 ** (number / 2) * noise, x)",
        (DECISION,),
    ),
    Mutant(
        "the point moves while directions are drawn",
        "attacks/decision.py",
        "x, z = self.batch.x, self.kept.point.clone()",
        "x, z = self.batch.x, self.kept.point",
        (DECISION,),
    ),
    Mutant(
        "only the last draw tells whether outputs move",
        "attacks/black_box.py",
        "moves |= value != clean",
        "moves = value != clean",
        ("tests/unit/attacks/test_black_box.py",),
    ),
    Mutant(
        "what is not followed is forgotten",
        "certification/forms.py",
        "form.shares * slope[:, None], rest + half)",
        "form.shares * slope[:, None], rest)",
        (HALVING,),
    ),
    Mutant(
        "constant maps disagree",
        "audit/sections/explain/findings.py",
        "compared = [one for one in told if one.correlation.value != FLAT]",
        "compared = told",
        ("tests/integration/test_sections.py",),
    ),
    Mutant(
        "a radius counts wrong answers",
        "audit/sections/certificates/__init__.py",
        'good = own & columns["right"]',
        "good = own",
        (PROVED,),
    ),
    Mutant(
        "the furthest competitor is named",
        "audit/sections/certificates/task.py",
        "apart.argmin(1)",
        "apart.argmax(1)",
        (PROVED,),
    ),
    Mutant(
        "no slope refutes a constant",
        "audit/sections/certificates/task.py",
        "share > 1 + ROOM",
        "share > 1e9 + ROOM",
        (PROVED,),
    ),
    Mutant(
        "shown examples count in what was moved",
        "audit/sections/boundary/record.py",
        'own = drawn(torch.arange(len(columns["shown"])), columns["shown"])',
        'own = torch.arange(len(columns["shown"]))',
        (WITHSTOOD,),
    ),
    Mutant(
        "a certificate is not held against the attack",
        "audit/sections/boundary/task.py",
        "(apart > (told.drift + 2 * told.error) * (1 + ROOM))",
        "(apart > 1e9 + (told.drift + 2 * told.error) * (1 + ROOM))",
        (WITHSTOOD,),
    ),
    Mutant(
        "every share is the whole radius",
        "audit/sections/boundary/__init__.py",
        "eps = share * float(",
        "eps = float(",
        (WITHSTOOD,),
    ),
    Mutant(
        "the fault is the model's whatever others do",
        "audit/sections/boundary/findings.py",
        "o.top.value >= rules.attacked_top_floor]",
        "o.top.value >= 0]",
        (WITHSTOOD,),
    ),
    Mutant(
        "chance agreement is not taken off",
        "metrics/resemblance.py",
        "return (observed - expected) / (1 - expected)",
        "return observed / (1 - expected)",
        (RESEMBLANCE,),
    ),
    Mutant(
        "HSIC keeps its bias",
        "metrics/resemblance.py",
        "(both + each - 2 *",
        "(both - 2 *",
        (RESEMBLANCE,),
    ),
    Mutant(
        "the least alike is named",
        "audit/sections/resemblance/__init__.py",
        "nearest = max(own",
        "nearest = min(own",
        (BESIDE,),
    ),
    Mutant(
        "inputs pass for features",
        "audit/sections/resemblance/task.py",
        "cut = last_layer(model)",
        'cut = last_layer(model).__class__("", last_layer(model).side)',
        (BESIDE,),
    ),
)

LOOKED_AT = (
    Mutant(
        "colours lose their sign",
        "core/shades.py",
        "(values / max(scale, 1e-30)).clip(-1, 1)",
        "abs(values / max(scale, 1e-30)).clip(-1, 1)",
        (LOOKS, TEXT),
    ),
    Mutant(
        "the largest number is full colour",
        "core/shades.py",
        "PERCENTILE = 99.0",
        "PERCENTILE = 100.0",
        (LOOKS,),
    ),
    Mutant(
        "a mask keeps what is against",
        "plots/looks.py",
        "summed(values).clip(min=0)",
        "(-summed(values)).clip(min=0)",
        (LOOKS,),
    ),
    Mutant(
        "a mask keeps too much",
        "plots/looks.py",
        "np.quantile(shown, 1 - self.share)",
        "np.quantile(shown, self.share)",
        (LOOKS,),
    ),
    Mutant(
        "a mask shows the balance",
        "plots/looks.py",
        "blurred(summed(values).clip(min=0), self.blur)",
        "blurred(summed(values), self.blur).clip(min=0)",
        (LOOKS,),
    ),
    Mutant(
        "each cell of a row has a scale of its own",
        "plots/compared.py",
        "look.draw(place, shown[name], scale,",
        "look.draw(place, shown[name], canvas.full_colour([shown[name]]),",
        (LOOKS,),
    ),
    Mutant(
        "padding is coloured",
        "plots/text.py",
        "tuple(zip(words, row[: len(words)].tolist(), strict=True))",
        "tuple(zip([*words, *['-'] * (len(row) - len(words))], row.tolist(), strict=True))",
        (TEXT,),
    ),
    Mutant(
        "features are averaged, not added up",
        "plots/text.py",
        "values.sum(2) if",
        "values.mean(2) if",
        (TEXT,),
    ),
    Mutant(
        "what is for is underlined",
        "plots/text.py",
        'text-decoration:underline" if value < 0',
        'text-decoration:underline" if value > 0',
        (TEXT,),
    ),
    Mutant(
        "ink is black on dark grounds",
        "plots/text.py",
        "MIDDLE = 0.179",
        "MIDDLE = 0.05",
        (TEXT,),
    ),
    Mutant(
        "the units of the first example alone are ranked",
        "metrics/seen.py",
        "unit_influences(inner, Over.SUM).double().mean(0)",
        "unit_influences(inner, Over.SUM).double()[0]",
        (SEEN,),
    ),
    Mutant(
        "influences are reduced as what is seen",
        "metrics/seen.py",
        "unit_influences(inner, Over.SUM)",
        "unit_influences(inner, over)",
        (SEEN,),
    ),
    Mutant(
        "all units see the same",
        "metrics/seen.py",
        "quantity=Units((unit,), over)",
        "quantity=Units(units, over)",
        (SEEN,),
    ),
    Mutant(
        "what a unit sees is what the output sees",
        "metrics/seen.py",
        "where=Slice(INPUT, cut)",
        "where=Slice(INPUT)",
        (SEEN,),
    ),
    Mutant(
        "the share counts what is against",
        "metrics/seen.py",
        "float(found.influences.clamp(min=0).sum())",
        "float(found.influences.sum())",
        (SEEN,),
    ),
    Mutant(
        "a photograph keeps its margin",
        "data/photographs.py",
        "scale *= min(size) / (min(size) + margin)",
        "scale *= 1",
        (PHOTOGRAPHS,),
    ),
    Mutant(
        "the corner of a photograph is cut out",
        "data/photographs.py",
        "(whole - scale * part) / 2",
        "(whole - scale * part) * 0",
        (PHOTOGRAPHS,),
    ),
    Mutant(
        "the camera is not heard",
        "data/photographs.py",
        "ImageOps.exif_transpose(file)",
        "file.copy()",
        (PHOTOGRAPHS,),
    ),
    Mutant(
        "--versus is the wrong way round",
        "cli/asked.py",
        "return Always(own), Contrast(other), words",
        "return Always(other), Contrast(own), words",
        (EXPLAINED_PHOTOGRAPH,),
    ),
)

HIP = (
    Mutant(
        "an attacked explanation may come with another answer",
        "attribution/compared.py",
        "torch.where(lead >= 0, similarity, LOST - lead)",
        "similarity",
        (f"{EXPLANATION_ATTACKS}::test_the_prediction_stays_and_the_map_moves",),
    ),
    Mutant(
        "where the answer is lost, descent leads on",
        "attribution/compared.py",
        "LOST - lead)",
        "LOST + lead)",
        (f"{EXPLANATION_ATTACKS}::test_without_the_guard_predictions_would_have_changed",),
    ),
    Mutant(
        "at a tie any answer is kept",
        "attribution/compared.py",
        "lead.clamp(max=less)",
        "lead",
        (f"{EXPLANATION_ATTACKS}::test_at_a_tie_the_first_class_is_the_answer",),
    ),
    Mutant(
        "the top moves with the map",
        "attribution/similarity.py",
        "        old = mass(before)\n",
        "        old = mass(now)\n",
        (f"{EXPLANATION_ATTACKS}::test_similarities_by_their_definitions",),
    ),
    Mutant(
        "a cosine without the length of the map",
        "attribution/similarity.py",
        "torch.linalg.vector_norm(a, dim=1) * torch",
        "torch.linalg.vector_norm(b, dim=1) * torch",
        (f"{EXPLANATION_ATTACKS}::test_similarities_by_their_definitions",),
    ),
    Mutant(
        "the centre is that of signed values",
        "attribution/similarity.py",
        "size = values * values.detach().sign()",
        "size = values",
        (f"{EXPLANATION_ATTACKS}::test_similarities_by_their_definitions",),
    ),
    Mutant(
        "the score of an attack is that of the map at x",
        "metrics/attacked.py",
        "return torch.minimum(found, self.similarity(values, values))",
        "return self.similarity(values, values)",
        (f"{EXPLANATION_ATTACKS}::test_the_score_is_what_the_attack_finds",),
    ),
    Mutant(
        "the smoothed gradient drifts half as far",
        "certification/drift.py",
        "    return 2 * constant * min(",
        "    return constant * min(",
        (f"{EXPLANATION_CERTIFICATES}::test_the_bound_is_met_by_the_absolute_value",),
    ),
    Mutant(
        "the drift is over the whole radius",
        "certification/drift.py",
        "radius / (2 * math.sqrt(2) * scale)",
        "radius / (math.sqrt(2) * scale)",
        (f"{EXPLANATION_CERTIFICATES}::test_the_bound_is_met_by_the_absolute_value",),
    ),
    Mutant(
        "the sampling error forgets the mean",
        "certification/drift.py",
        "(1 + math.sqrt(2 * math.log(1 / alpha)))",
        "(math.sqrt(2 * math.log(1 / alpha)))",
        (f"{EXPLANATION_CERTIFICATES}::test_averages_lie_within_the_sampling_error",),
    ),
    Mutant(
        "the least cosine is that of an orthogonal step",
        "certification/drift.py",
        "cosine = (1 - part.square()).clamp(min=0).sqrt() - 1e-12",
        "cosine = (1 + part.square()).rsqrt()",
        (f"{EXPLANATION_CERTIFICATES}::test_no_map_within_the_distance_has_a_smaller_cosine",),
    ),
    Mutant(
        "one patch alone pays for passing another",
        "certification/drift.py",
        "cost = gaps.square().sum(1) / 2 *",
        "cost = gaps.square().sum(1) *",
        (
            f"{EXPLANATION_CERTIFICATES}::test_one_patch_passes_another_at_their_gap_over_the_root_of_two",
        ),
    ),
    Mutant(
        "pooling adds up without a root",
        "certification/drift.py",
        "math.sqrt(values.shape[1] * patch**2)",
        "math.sqrt(patch**2)",
        (f"{EXPLANATION_CERTIFICATES}::test_pooling_brings_maps_no_farther_apart",),
    ),
    Mutant(
        "the constant of a margin is that of its nearest class",
        "certification/drift.py",
        "row_constants(found, rows)[0].amax(1)[which]",
        "row_constants(found, rows)[0].amin(1)[which]",
        (
            f"{EXPLANATION_CERTIFICATES}::test_the_constant_of_a_linear_model_is_that_of_its_weights",
        ),
    ),
    Mutant(
        "a certified explanation forgets the sampling error",
        "metrics/certified.py",
        "    cosine = least_cosine(shown.values, away + error)\n",
        "    cosine = least_cosine(shown.values, away)\n",
        (f"{EXPLANATION_CERTIFICATES}::test_what_is_reported_follows_from_its_parts",),
    ),
    Mutant(
        "gradients of another function are certified",
        "metrics/certified.py",
        "length > constant * (1 + 1e-4)",
        "length > constant * 9",
        (f"{EXPLANATION_CERTIFICATES}::test_gradients_of_another_function_are_not_certified",),
    ),
    Mutant(
        "a relative distance in units of the other map",
        "metrics/geometry.py",
        "length(a - b) / length(a)",
        "length(a - b) / length(b)",
        (f"{GEOMETRY}::test_ig_and_big_of_a_linear_model_are_closed_forms",),
    ),
    Mutant(
        "the boundary's normal is that of the logit",
        "metrics/geometry.py",
        "CosineTo(boundary_saliency(search, quantity=margin), title, meaning)",
        "CosineTo(boundary_saliency(search), title, meaning)",
        (f"{GEOMETRY}::test_alignment_of_a_linear_model_is_that_of_its_weights",),
    ),
    Mutant(
        "energy counts what speaks against the class",
        "metrics/positive.py",
        "by_feature(values).clamp(min=0)",
        "by_feature(values).abs()",
        (f"{GEOMETRY}::test_localisation_by_its_definitions",),
    ),
    Mutant(
        "concentration by distances in shares of the map",
        "metrics/positive.py",
        ".shape[1:]\n        lines = [torch.arange(n,",
        ".shape[1:]\n        lines = [2 * torch.arange(n,",
        (f"{GEOMETRY}::test_localisation_by_its_definitions",),
    ),
    Mutant(
        "a disguise that shows where it lies at the boundary",
        "models/disguised.py",
        "(2 * self.distance(x) / self.width)",
        "(self.distance(x) / self.width)",
        (f"{DISGUISED}::test_the_gradients_are_those_of_the_other_function",),
    ),
    Mutant(
        "a disguise that answers by the other function's sign",
        "models/disguised.py",
        "value - other.low + self.least",
        "value + self.least",
        (f"{DISGUISED}::test_it_is_continuous_where_the_gradients_change",),
    ),
    Mutant(
        "a vote by a one-sided test",
        "models/selective.py",
        "p = (2 * torch.as_tensor",
        "p = (torch.as_tensor",
        (f"{DISGUISED}::test_a_vote_is_an_answer_where_the_binomial_test_says_so",),
    ),
    Mutant(
        "the curvature forgets that probabilities add up to one",
        "training/smoothness.py",
        "p * (moved - (p * moved).sum(1, keepdim=True))",
        "p * moved",
        (f"{SMOOTHNESS}::test_the_curvature_is_the_top_eigenvalue_of_the_hessian",),
    ),
    Mutant(
        "no power iteration",
        "training/smoothness.py",
        "    for _ in range(steps):\n",
        "    for _ in range(0):\n",
        (f"{SMOOTHNESS}::test_the_curvature_is_the_top_eigenvalue_of_the_hessian",),
    ),
    Mutant(
        "the path's gradients are credited with nothing",
        "training/smoothness.py",
        "(mean * way).flatten(1)",
        "mean.flatten(1)",
        (f"{SMOOTHNESS}::test_the_path_norm_is_that_of_integrated_gradients",),
    ),
)

INFLUENCES = (
    Mutant(
        "what goes round a cut at a position is not seen",
        "models/graph.py",
        "sources = [joined] if act.cut.at is None else [whole, joined]",
        "sources = [joined]",
        (f"{INFLUENCE}::test_cuts_that_part_a_chain_are_seen",),
    ),
    Mutant(
        "every cut lets something by",
        "models/graph.py",
        "sources = [joined] if act.cut.at is None else [whole, joined]",
        "sources = [whole, joined]",
        (f"{INFLUENCE}::test_cuts_that_part_a_chain_are_seen",),
    ),
    Mutant(
        "the last of several cuts alone parts a network",
        "models/graph.py",
        "shut, reached = set(others), ",
        "shut, reached = set(others[-1:]), ",
        (f"{INFLUENCE}::test_what_goes_round_a_cut_is_seen",),
    ),
    Mutant(
        "a network without a graph is parted by any cut",
        "models/between.py",
        "return part is not None and part.parted",
        "return part is None or part.parted",
        (f"{INFLUENCE}::test_what_goes_round_a_cut_is_seen",),
    ),
    Mutant(
        "the ends of examples at a time are the wrong way round",
        "attribution/influence.py",
        "torch.cat(errors) if errors else None, (start, stop))",
        "torch.cat(errors) if errors else None, (stop, start))",
        (f"{INFLUENCE}::test_some_examples_at_a_time_give_what_all_do",),
    ),
    Mutant(
        "streams follow a choice that changes later",
        "core/random.py",
        "        return Streams(lambda: key)",
        "        return Streams(lambda: self.key[keep])",
        ("tests/unit/core/test_random.py::test_streams_are_of_the_examples_that_were_chosen_then",),
    ),
    Mutant(
        "streams follow an index that changes later",
        "core/random.py",
        "index.to(torch.int64, copy=True)",
        "index.to(torch.int64)",
        ("tests/unit/core/test_random.py::test_streams_are_of_the_examples_that_were_chosen_then",),
    ),
    Mutant(
        "what moves in front of a cut is a constant to secants",
        "attribution/passes.py",
        "(whole or cut in self.cuts)",
        "cut in self.cuts",
        (f"{INFLUENCE}::test_what_by_passes_a_gate_counts_by_its_mean",),
    ),
    Mutant(
        "a density by what switches, not its root",
        "core/quadrature.py",
        "torch.cat(blocks).sqrt_()",
        "torch.cat(blocks)",
        (f"{INFLUENCE}::test_a_density_is_by_the_root_of_what_switches",),
    ),
    Mutant(
        "the least entry is looked for as the largest",
        "models/switches.py",
        "else z.amin(axes, keepdim=True)",
        "else z.amax(axes, keepdim=True)",
        (f"{INFLUENCE}::test_the_pieces_of_the_largest_and_the_least_of_several",),
    ),
    Mutant(
        "cuts share their noise",
        "core/distribution.py",
        'batch.rng.fold("noise").fold(place)',
        'batch.rng.fold("noise").fold(0)',
        (f"{INFLUENCE}::test_each_cut_has_noise_of_its_own",),
    ),
    Mutant(
        "one panel is compared with itself",
        "core/path.py",
        "range(int(least == 1), DOUBLINGS + 1)",
        "range(DOUBLINGS + 1)",
        (f"{INFLUENCE}::test_two_nodes_with_a_tolerance_are_compared_with_more",),
    ),
    Mutant(
        "necessity keeps the units that it should leave out",
        "metrics/necessity.py",
        "_probability(model, batch, attributor, ~first, self.fill)",
        "_probability(model, batch, attributor, first, self.fill)",
        (f"{DIRECTED}::test_necessity_and_sufficiency_by_hand",),
    ),
    Mutant(
        "folded weights forget the variance",
        "models/optimised.py",
        "factor = (norm.running_var.double() + norm.eps).rsqrt()",
        "factor = torch.ones_like(norm.running_var.double())",
        ("tests/unit/models/test_models_optimised.py",),
    ),
    Mutant(
        "a boundary is met at the first point that flips",
        "core/boundary.py",
        "        return met(on_way, self.value, ends, end, HALVINGS)",
        "        return end",
        (f"{BOUNDARY}::test_rounds_only_bring_it_nearer",),
    ),
    Mutant(
        "false position goes the other way",
        "core/boundary.py",
        "share = (middle - inwards.sign() * drawn.minimum(room)).to(end.dtype)",
        "share = (middle + inwards.sign() * drawn.minimum(room)).to(end.dtype)",
        ("tests/unit/core/test_boundary_met.py",),
    ),
    Mutant(
        "false position is not drawn to the middle",
        "core/boundary.py",
        "(inwards.abs() - 0.2 * (far - near) ** 2).clamp(min=0)",
        "inwards.abs()",
        ("tests/unit/core/test_boundary_met.py",),
    ),
    Mutant(
        "false position has any room",
        "core/boundary.py",
        "inwards.sign() * drawn.minimum(room)",
        "inwards.sign() * drawn",
        ("tests/unit/core/test_boundary_met.py",),
    ),
    Mutant(
        "an example moves on with the others",
        "core/boundary.py",
        "over, short = open_ & (found <= 0), open_ & ~(found <= 0)",
        "over, short = found <= 0, ~(found <= 0)",
        ("tests/unit/core/test_boundary_met.py",),
    ),
    Mutant(
        "a search for the boundary ends early",
        "core/boundary.py",
        "width = 2.0**-halvings",
        "width = 4.0 * 2.0**-halvings",
        ("tests/unit/core/test_boundary_met.py",),
    ),
    Mutant(
        "the plane is that of the gradient at the example",
        "core/boundary.py",
        "value_and_gradient(self.model, self.quantity, self.batch.at(z))",
        "value_and_gradient(self.model, self.quantity, self.batch)",
        (f"{BOUNDARY}::test_rounds_only_bring_it_nearer",),
    ),
    Mutant(
        "what was never crossed passes for found",
        "core/boundary.py",
        "    found = found & (drawing.value(best) <= 0)\n",
        "    found = found | True\n",
        (f"{BOUNDARY}::test_rounds_only_bring_it_nearer",),
    ),
    Mutant(
        "a map where no boundary was found",
        "attribution/boundary.py",
        "torch.where(column(found, g), g, 0)",
        "g",
        (f"{BOUNDARY}::test_where_there_is_no_boundary_the_map_is_zero",),
    ),
    Mutant(
        "the boundary stands while noise moves the example",
        "attribution/boundary.py",
        "moved = batch.x + (self.points - self.x)",
        "moved = self.points + (batch.x - batch.x)",
        (f"{BOUNDARY}::test_smoothed_of_squares_they_are_those_of_both_ends_moved_alike",),
    ),
    Mutant(
        "a boundary that was not found is there by rounding",
        "attribution/boundary.py",
        "moved = batch.x + (self.points - self.x)",
        "moved = self.points + (batch.x - self.x)",
        (f"{BOUNDARY}::test_where_there_is_no_boundary_the_map_is_zero",),
    ),
    Mutant(
        "the boundary is searched anew from each noisy copy",
        "attribution/boundary.py",
        "replace(self.inner, baseline=known), self.scale",
        "self.inner, self.scale",
        (f"{BOUNDARY}::test_smoothed_of_squares_they_are_those_of_both_ends_moved_alike",),
    ),
    Mutant(
        "far boundaries weigh more than near ones",
        "attribution/boundary.py",
        ".double().reciprocal() for z in met]",
        ".double() for z in met]",
        (f"{BOUNDARY}::test_of_several_linear_boundaries_it_is_the_weighted_sum",),
    ),
    Mutant(
        "all boundaries weigh the same",
        "attribution/boundary.py",
        "nearness.isfinite(), nearness, 0)",
        "nearness.isfinite(), 1.0, 0)",
        (f"{BOUNDARY}::test_of_several_linear_boundaries_it_is_the_weighted_sum",),
    ),
    Mutant(
        "the weights of boundaries do not add up to 1",
        "attribution/boundary.py",
        "torch.where(nearness.sum(0) > 0, nearness.sum(0), 1)",
        "torch.where(nearness.sum(0) > 0, nearness.amax(0), 1)",
        (f"{BOUNDARY}::test_of_several_linear_boundaries_it_is_the_weighted_sum",),
    ),
    Mutant(
        "every boundary is that of the nearest class",
        "attribution/boundary.py",
        "search(model, replace(batch, aim=rival))",
        "Boundary(self.threat)(model, batch)",
        (f"{BOUNDARY}::test_of_several_linear_boundaries_it_is_the_weighted_sum",),
    ),
    Mutant(
        "the class behind a boundary may be the one before it",
        "attacks/boundary.py",
        "there.scatter(1, aim[:, None], -torch.inf).argmax(1)",
        "there.argmax(1)",
        (f"{BOUNDARY}::test_of_a_linear_model_the_distance_is_exact",),
    ),
    Mutant(
        "the units that are kept are put to the fill",
        "models/kept.py",
        "torch.where(keep, value, fill)",
        "torch.where(~keep, value, fill)",
        (f"{DIRECTED}::test_a_model_keeps_units_as_by_hand",),
    ),
    Mutant(
        "the least influential units come first",
        "metrics/directed.py",
        "influences.argsort(descending=True, stable=True)",
        "influences.argsort(stable=True)",
        (f"{DIRECTED}::test_the_essence_of_a_class_is_the_unit_that_makes_it",),
    ),
    Mutant(
        "tied scores are counted one by one",
        "metrics/directed.py",
        "score[1:] != score[:-1]",
        "score[1:] == score[1:]",
        (f"{DIRECTED}::test_average_precision_by_hand",),
    ),
    Mutant(
        "the largest place of a channel is its mean",
        "core/units.py",
        "Over.MAX: lambda flat: flat.amax(2)",
        "Over.MAX: lambda flat: flat.mean(2)",
        (f"{DIRECTED}::test_quantities_of_units_have_the_published_values",),
    ),
    Mutant(
        "a softmax's shares are those of the row",
        "models/product_rules.py",
        "slopes.exp(z - top, there - top) / slopes.exp(whole - top, other - top)",
        "z.softmax(ctx.axis)",
        (f"{SECANT}::test_every_rule_is_complete_and_keeps_the_values",),
    ),
    Mutant(
        "a product's other factor is that of the row",
        "models/product_rules.py",
        "means = (a + a[partner]) / 2, (b + b[partner]) / 2",
        "means = a, b",
        (f"{SECANT}::test_every_rule_is_complete_and_keeps_the_values",),
    ),
    Mutant(
        "layer norm forgets that its scale moves",
        "models/slopes.py",
        "return (g * size - a * (first * p + both * q) - b * (both * p + second * q)).to(kind)",
        "return (g * size).to(kind)",
        ("tests/unit/models/test_models_secant.py",),
    ),
    Mutant(
        "nodes are placed where nothing changes",
        "core/quadrature.py",
        "spread / whole + UNIFORM * even, even)",
        "(1 - spread / whole) / (cells - 1) + UNIFORM * even, even)",
        (f"{INFLUENCE}::test_nodes_go_where_the_pieces_change",),
    ),
    Mutant(
        "nodes leave the baseline out",
        "core/quadrature.py",
        "    found[:, 0], found[:, -1] = 0, 1\n",
        "    found[:, 0], found[:, -1] = found[:, 1] / 2, 1\n",
        (f"{ATTRIBUTION}::test_secant_panels_are_complete_at_every_budget",),
    ),
    Mutant(
        "pieces are compared with the next but one",
        "models/switches.py",
        "blocks[1:] != blocks[:-1]",
        "blocks[-1:] != blocks[:-1]",
        (f"{INFLUENCE}::test_nodes_go_where_the_pieces_change",),
    ),
    Mutant(
        "an upper kink is not seen",
        "models/switches.py",
        '"relu6": ("input", _sides(0.0, 6.0))',
        '"relu6": ("input", _sides(0.0))',
        (f"{INFLUENCE}::test_the_pieces_of_each_activation",),
    ),
    Mutant(
        "the mean over a path weighs its panels alike",
        "core/quadrature.py",
        "total.add(seen.gradients, mesh[k] - mesh[k - 1])",
        "total.add(seen.gradients, 1 / (len(mesh) - 1))",
        (f"{INFLUENCE}::test_internal_influence_is_captums",),
    ),
    Mutant(
        "an estimated error is that of the finest mesh with itself",
        "core/path.py",
        "_apart(now, before)",
        "_apart(now, now)",
        (f"{INFLUENCE}::test_a_tolerance_is_met_or_told",),
    ),
    Mutant(
        "a straight way starts at zero",
        "core/path.py",
        "return model.run(batch.at(self.baseline(model, batch)), take=cuts)",
        "return tuple(z * 0 for z in model.run(batch, take=cuts))",
        (f"{INFLUENCE}::test_a_straight_way_of_a_linear_rest_is_exact_and_complete",),
    ),
    Mutant(
        "the variance of gradients is their mean square",
        "core/distribution.py",
        "(square - mean * mean)",
        "(square)",
        (f"{INFLUENCE}::test_the_moments_of_noisy_gradients",),
    ),
    Mutant(
        "a mixture forgets its weights",
        "core/distribution.py",
        "total.add(ended[k].values, weights[k])",
        "total.add(ended[k].values, 1 / len(weights))",
        (f"{INFLUENCE}::test_a_mixture_is_linear_in_its_parts",),
    ),
    Mutant(
        "every drawn baseline is the same",
        "core/baseline.py",
        "(start + self.draw * stride) % count",
        "start % count",
        (f"{INFLUENCE}::test_drawn_baselines_walk_through_all_instances",),
    ),
    Mutant(
        "the samples of a set are one",
        "core/distribution.py",
        'batch.rng.fold("within").fold(k)',
        'batch.rng.fold("within").fold(0)',
        (f"{INFLUENCE}::test_the_gradient_over_a_set_is_taken_at_its_samples",),
    ),
    Mutant(
        "a blur is twice as wide",
        "core/baseline.py",
        "(2 * self.width**2)",
        "(4 * self.width**2)",
        (f"{INFLUENCE}::test_baselines",),
    ),
)

CORE = (
    Mutant(
        "a panel's gap is spread uniformly over the elements",
        "core/quadrature.py",
        "                total.credit(seen.gradients, seen.at, seen.end[1])\n",
        "                total.add(tuple(((seen.end[0] - seen.value) / g[0].numel()).reshape("
        "-1, *[1] * (g.ndim - 1)).expand_as(g).clone() for g in seen.gradients))\n",
        (f"{ATTRIBUTION}::test_panels_weigh_by_what_happens_in_them",),
    ),
    Mutant(
        "panels are credited with equal steps",
        "core/quadrature.py",
        "                total.credit(seen.gradients, seen.at, seen.end[1])\n",
        "                total.add(seen.gradients, 1 / (len(mesh) - 1))\n",
        (f"{ATTRIBUTION}::test_panels_weigh_by_what_happens_in_them",),
    ),
    Mutant(
        "the trapezoid rule takes its right end alone",
        "core/quadrature.py",
        "total.credit([a + b for a, b in ends], before.at, seen.at, 0.5)",
        "total.credit([b for a, b in ends], before.at, seen.at)",
        (f"{ATTRIBUTION}::test_a_cubic_is_integrated_to_the_order_of_each_rule",),
    ),
    Mutant(
        "Gauss-Legendre nodes with equal weights",
        "core/quadrature.py",
        "[0.0, *(weights.cumsum() / 2).tolist()]",
        "[k / rule.nodes for k in range(rule.nodes + 1)]",
        (f"{ATTRIBUTION}::test_rules_converge_to_the_definition",),
    ),
    Mutant(
        "the ends of a path are swapped",
        "core/path.py",
        "return {INPUT: self.baseline(model, batch)}, {INPUT: batch.x}",
        "return {INPUT: batch.x}, {INPUT: self.baseline(model, batch)}",
        (f"{ATTRIBUTION}::test_the_gap_is_the_sum_less_the_change_of_the_quantity",),
    ),
    Mutant(
        "the baseline is ignored",
        "core/path.py",
        "came: object = self.baseline(model, batch)",
        "came: object = zeros(model, batch)",
        (f"{ATTRIBUTION}::test_linear_models_are_exact_at_every_budget",),
    ),
    Mutant(
        "SmoothGrad's scale ignores the range",
        "core/distribution.py",
        "width = (flat.amax(1) - flat.amin(1)) * scale if",
        "width = torch.ones_like(flat[:, 0]) * scale if",
        (f"{ATTRIBUTION}::test_smoothgrad_noise_is_a_share_of_each_examples_range",),
    ),
    Mutant(
        "SmoothGrad's range is the largest value",
        "core/distribution.py",
        "width = (flat.amax(1) - flat.amin(1)) * scale if",
        "width = flat.abs().amax(1) * scale if",
        (f"{ATTRIBUTION}::test_smoothgrad_noise_is_a_share_of_each_examples_range",),
    ),
    Mutant(
        "SmoothGrad's scale ignored",
        "core/distribution.py",
        "width = (flat.amax(1) - flat.amin(1)) * scale if",
        "width = flat.amax(1) - flat.amin(1) if",
        (f"{ATTRIBUTION}::test_smoothgrad_noise_is_a_share_of_each_examples_range",),
    ),
    Mutant(
        "every draw of SmoothGrad is the same",
        "core/distribution.py",
        'batch.rng.fold("noise").fold(place).each(draws)',
        'batch.rng.fold("noise").fold(place).each([0] * len(draws))',
        (f"{ATTRIBUTION}::test_smoothgrad_noise_is_a_share_of_each_examples_range",),
    ),
    Mutant(
        "L1's stuck test reversed",
        "core/ball.py",
        "stuck = torch.where(gradient > 0, z >= high, z <= low)",
        "stuck = torch.where(gradient > 0, z <= low, z >= high)",
        (f"{THREAT}::test_the_l1_step_leaves_out_what_the_box_already_stops",),
    ),
    Mutant(
        "the projection keeps the outer point",
        "core/projection.py",
        "inside = value <= aim",
        "inside = value >= aim",
        (PROJECTION,),
    ),
    Mutant(
        "the projection leaves a slack in the radius",
        "core/projection.py",
        "return distance(path(t), x, rule.order) * slack / eps - 1",
        "return distance(path(t), x, rule.order) * 0.999999 / eps - 1",
        (PROJECTION,),
    ),
    Mutant(
        "the l1 projection ignores the box",
        "core/projection.py",
        "return (x + rule.moved(d, t)).clamp_(low, high)",
        "return x + rule.moved(d, t)",
        (PROJECTION,),
    ),
    Mutant(
        "membership with a slack",
        "core/exact.py",
        "held = length * (1 + error) <= eps\n",
        "held = length <= eps * (1 + 1e-6)\n",
        (f"{THREAT}::test_the_sphere_belongs_to_the_ball_and_the_next_float_does_not",),
    ),
    Mutant(
        "membership ignores the mask's limits",
        "core/ball.py",
        "return box & holds(z, x, self.radius(x), self.order)",
        "return holds(z, x, self.radius(x), self.order)",
        (f"{THREAT}::test_nothing_moves_outside_the_mask",),
    ),
    Mutant(
        "the enclosure ignores the mask",
        "core/ball.py",
        "                low = torch.where(self.mask, low, centre)\n",
        "                pass\n",
        (f"{THREAT}::test_nothing_moves_outside_the_mask",),
    ),
    Mutant(
        "the enclosure is rounded to nearest",
        "core/ball.py",
        "low, high = sum_down(centre, -radius), -sum_down(-centre, -radius)",
        "eps = radius.reshape(-1, *[1] * (x.ndim - 1)); low, high = centre - eps, centre + eps",
        ("tests/unit/core/test_ball.py::test_the_enclosure_is_rounded_outwards",),
    ),
    Mutant(
        "a name of a stream is ignored",
        "core/random.py",
        'return _word(2 * int.from_bytes(name, "little") + 1)',
        "return _word(1)",
        (f"{RANDOM}::test_no_two_purposes_share_numbers",),
    ),
    Mutant(
        "numbers and names of streams meet",
        "core/random.py",
        "    return _word(2 * purpose)\n",
        "    return _word(2 * purpose + 1)\n",
        (f"{RANDOM}::test_numbers_equal_a_reference_in_python_integers",),
    ),
    Mutant(
        "streams depend on the place in the batch",
        "core/random.py",
        "own = index.to(torch.int64, copy=True)",
        "own = torch.arange(len(index))",
        (f"{RANDOM}::test_an_examples_numbers_do_not_depend_on_its_batch",),
    ),
    Mutant(
        "the margin is over all classes",
        "core/quantity.py",
        "others = outputs.scatter(1, aim[:, None], -torch.inf)",
        "others = outputs",
        (f"{QUANTITY}::test_values_by_hand",),
    ),
    Mutant(
        "the margin's rows hold the class itself",
        "core/quantity.py",
        "others = torch.arange(classes, device=aim.device) != aim[:, None]",
        "others = torch.arange(classes, device=aim.device) != (aim[:, None] + 1) % classes",
        (f"{QUANTITY}::test_rows_of_piecewise_linear_quantities_give_their_value",),
    ),
    Mutant(
        "the sign of a contrast's rows",
        "core/quantity.py",
        "return (unit(a, classes, self) - unit(b, classes, self))[:, None]",
        "return (unit(b, classes, self) - unit(a, classes, self))[:, None]",
        (f"{QUANTITY}::test_rows_of_piecewise_linear_quantities_give_their_value",),
    ),
    Mutant(
        "a targeted attack runs away from its target",
        "core/quantity.py",
        "return -_margin(outputs, target, self)",
        "return _margin(outputs, target, self)",
        (f"{QUANTITY}::test_values_by_hand",),
    ),
    Mutant(
        "a tie is no success",
        "core/run.py",
        '"success": value <= quantity.goal',
        '"success": value < quantity.goal',
        (f"{RUN}::test_a_tie_is_a_success_of_the_attack_and_never_certified",),
    ),
    Mutant(
        "a tie is certified",
        "core/run.py",
        "held = lower > quantity.goal\n",
        "held = lower >= quantity.goal\n",
        (
            f"{RUN}::test_a_tie_is_a_success_of_the_attack_and_never_certified",
            f"{CERTIFICATES}::test_ties_are_not_certified",
        ),
    ),
    Mutant(
        "a goal of -inf is treated as 0",
        "core/run.py",
        "todo = (clean > quantity.goal).nonzero()[:, 0]",
        "todo = (clean > max(quantity.goal, 0.0)).nonzero()[:, 0]",
        (f"{RUN}::test_a_logit_is_minimised_and_maximised_without_end",),
    ),
    Mutant(
        "the driver does not check candidates",
        "core/run.py",
        "found = check_candidates(method, came, standing.x, part.rows(todo))\n",
        "found = came.detach()\n",
        (f"{RUN}::test_an_attack_that_lies_is_caught",),
    ),
    Mutant(
        "the driver does not check membership",
        "core/postcondition.py",
        "outside = ~contained(threat, found, x)",
        "outside = torch.zeros(len(x), dtype=torch.bool)",
        (f"{RUN}::test_an_attack_that_lies_is_caught",),
    ),
    Mutant(
        "what a method returns may have any dtype",
        "core/returned.py",
        "(value.dtype in FLOATS if dtype is None else value.dtype == dtype)",
        "True",
        (STRANGERS,),
    ),
    Mutant(
        "what a method returns may lie anywhere",
        "core/returned.py",
        "            and value.device == like.device\n",
        "",
        (STRANGERS,),
    ),
    Mutant(
        "later batches are cast to the dtype of the first",
        "core/postcondition.py",
        "if column.dtype != whole.dtype or",
        "if",
        (f"{STRANGERS}::test_bounds_of_later_batches_are_not_rounded_to_the_dtype_of_the_first",),
    ),
    Mutant(
        "on an accelerator a class that is not there becomes an index",
        "core/classes.py",
        "    if not aim.is_cpu:\n",
        "    if False:\n",
        (f"{STRANGERS}::test_on_an_accelerator_a_class_is_looked_at_before_it_is_an_index",),
    ),
    Mutant(
        "on an accelerator an aim is looked at once, whatever is written to it",
        "core/classes.py",
        "if _LOOKED_AT.get(aim) != state:",
        "if aim not in _LOOKED_AT:",
        (f"{STRANGERS}::test_on_an_accelerator_a_class_is_looked_at_before_it_is_an_index",),
    ),
    Mutant(
        "a class stands on the rungs of its instances",
        "core/rung.py",
        "not isinstance(value, type) and ",
        "",
        (STRANGERS,),
    ),
    Mutant(
        "a method may assign to the model that it is lent",
        "core/meter.py",
        "def __setattr__(",
        "def _setattr(",
        (f"{STRANGERS}::test_a_method_cannot_assign_to_the_model_that_the_driver_passes_through",),
    ),
    Mutant(
        "what was assigned to a model stays",
        "models/torch.py",
        "        now.update((key, own[key]) for key in assigned)\n",
        "",
        (f"{STRANGERS}::test_what_is_assigned_to_a_model_is_taken_back",),
    ),
    Mutant(
        "torch's settings stay as a method left them",
        "core/settings.py",
        "                write(value)\n",
        "",
        (f"{STRANGERS}::test_torchs_settings_are_as_before",),
    ),
    Mutant(
        "the ends of a promise are swapped",
        "core/postcondition.py",
        "for point in (promise.start, promise.stop)",
        "for point in (promise.stop, promise.start)",
        (f"{STRANGERS}::test_the_driver_evaluates_what_a_method_promises",),
    ),
    Mutant(
        "the driver takes what the method returns, better or not",
        "core/run.py",
        "better = reached < clean[todo]",
        "better = torch.ones_like(reached, dtype=torch.bool)",
        (f"{RUN}::test_a_method_that_loses_does_not_replace_what_the_driver_has",),
    ),
    Mutant(
        "the attack's value is not that of its inputs",
        "core/run.py",
        "value[todo] = torch.where(better, reached, clean[todo])",
        "value[todo] = reached",
        (f"{RUN}::test_a_method_that_loses_does_not_replace_what_the_driver_has",),
    ),
    Mutant(
        "a lower bound above the clean value is kept",
        "core/run.py",
        "lower = torch.minimum(bounds.lower, clean)",
        "lower = bounds.lower",
        (f"{RUN}::test_a_bound_of_real_arithmetic_never_exceeds_the_value_that_was_computed",),
    ),
    Mutant(
        "bounds are not compared with the clean value",
        "core/postcondition.py",
        "if bool((bounds.lower > clean + slack).any()):",
        "if False:",
        (f"{RUN}::test_a_certificate_above_a_seen_value_is_an_alarm",),
    ),
    Mutant(
        "a deployed bound has a slack",
        "core/postcondition.py",
        "slack = 0 * unit if bounds.claim is Claim.SOUND_DEPLOYED else 256 * unit",
        "slack = 256 * unit",
        (f"{RUN}::test_a_bound_of_real_arithmetic_never_exceeds_the_value_that_was_computed",),
    ),
    Mutant(
        "a radius where x is lost is believed",
        "core/postcondition.py",
        "if radius is not None and bool(((radius > 0) & (clean + slack <= goal)).any()):",
        "if False:",
        (f"{RUN}::test_a_radius_for_an_example_that_is_lost_is_an_alarm",),
    ),
    Mutant(
        "what is not certified has the threat's radius",
        "core/postcondition.py",
        "return torch.where(held, eps, 0), torch.zeros_like(held)",
        "return eps * torch.ones_like(bounds.lower), torch.zeros_like(held)",
        (f"{RUN}::test_without_a_closed_form_the_radius_is_that_of_the_threat_or_nothing",),
    ),
    Mutant(
        "the sign of the change in the completeness gap",
        "core/postcondition.py",
        "return values.flatten(1).sum(1) - change",
        "return values.flatten(1).sum(1) + change",
        (f"{ATTRIBUTION}::test_the_gap_is_the_sum_less_the_change_of_the_quantity",),
    ),
    Mutant(
        "the sign of the completeness gap",
        "core/postcondition.py",
        "return values.flatten(1).sum(1) - change",
        "return change - values.flatten(1).sum(1)",
        (f"{ATTRIBUTION}::test_the_gap_is_the_sum_less_the_change_of_the_quantity",),
    ),
    Mutant(
        "columns are written from the front, in every batch",
        "core/drive.py",
        "whole[name][part] = column.detach().to(data.x.device)",
        "whole[name][: len(column)] = column.detach().to(data.x.device)",
        (f"{RUN}::test_predictions_come_in_the_order_of_the_data",),
    ),
    Mutant(
        "the last batch is left out",
        "core/drive.py",
        "for first in range(0, len(data), size):",
        "for first in range(0, max(1, len(data) - size + 1), size):",
        (f"{RUN}::test_predictions_come_in_the_order_of_the_data",),
    ),
    Mutant(
        "random numbers go by the place in the run",
        "core/drive.py",
        "Streams.of(seed, data.positions[part].to(device))",
        "Streams.of(seed, torch.arange(part.start, part.stop))",
        (f"{RUN}::test_results_do_not_depend_on_the_batch_size_or_the_company",),
    ),
    Mutant(
        "the claim of the last batch is that of the whole",
        "core/run.py",
        "claims.add(bounds.claim)",
        "claims.clear(); claims.add(bounds.claim)",
        (f"{RUN}::test_the_weakest_claim_is_that_of_the_whole",),
    ),
    Mutant(
        "known outputs answer for any x",
        "core/meter.py",
        "return self.outputs if batch.x is self.x else self.model(batch)",
        "return self.outputs",
        (f"{RUN}::test_what_the_driver_knows_is_known_of_its_own_inputs_alone",),
    ),
    Mutant(
        "known outputs answer for any x of the same shape",
        "core/meter.py",
        "return self.outputs if batch.x is self.x else self.model(batch)",
        "return self.outputs if batch.x.shape == self.x.shape else self.model(batch)",
        (f"{RUN}::test_what_the_driver_knows_is_known_of_its_own_inputs_alone",),
    ),
    Mutant(
        "backward passes are not counted",
        "core/meter.py",
        "self.count.backward += len(gradient)",
        "pass",
        (f"{RUN}::test_passes_are_counted_exactly",),
    ),
    Mutant(
        "an attack that contradicts a certificate is no alarm",
        "core/result.py",
        "if bool((fell & self.certified).any()):",
        "if False:",
        (f"{RUN}::test_verdicts_and_evidence_come_with_the_results",),
    ),
    Mutant(
        "a verdict ignores the attack",
        "core/result.py",
        "            fell = fell | attacked.success\n",
        "            pass\n",
        (f"{RUN}::test_the_verdict_of_a_certificate_knows_the_attack",),
    ),
    Mutant(
        "a certificate may be judged by an attack on other data",
        "core/result.py",
        'for field_ in ("data", "threat", "quantity") if attacked else ():',
        'for field_ in ("threat", "quantity") if attacked else ():',
        (f"{RUN}::test_the_verdict_of_a_certificate_knows_the_attack",),
    ),
    Mutant(
        "the strongest claim is taken for the weakest",
        "core/evidence.py",
        "return cls.SOUND_REAL if cls.SOUND_REAL in set(claims) else cls.SOUND_DEPLOYED",
        "return cls.SOUND_DEPLOYED if cls.SOUND_DEPLOYED in set(claims) else cls.SOUND_REAL",
        (f"{RUN}::test_the_weakest_claim_is_that_of_the_whole",),
    ),
    Mutant(
        "the digest of a data set leaves out its context",
        "core/dataset.py",
        '(("x", self.x), ("y", self.y), *sorted(self.context.items()))',
        '(("x", self.x), ("y", self.y))',
        (DATA,),
    ),
    Mutant(
        "a selection keeps the whole context",
        "core/dataset.py",
        "context={name: value[chosen] for name, value in self.context.items()},",
        "context={name: value[: len(chosen)] for name, value in self.context.items()},",
        (f"{RUN}::test_context_stands_still_and_moves_with_its_rows", DATA),
    ),
)

MODELS = (
    Mutant(
        "an operation without a rule is the identity",
        "models/rules/__init__.py",
        '            raise CapabilityError(_NO_RULE.get(call.name, "no bound is known for this '
        'operation"))\n',
        '            rule = RULES["clone"]\n',
        (f"{CERTIFICATES}::test_unknown_layers_are_refused_never_one",),
    ),
    Mutant(
        "results may mix the examples",
        "models/rules/__init__.py",
        "    if shape == (n, *one):\n        return Known(place)",
        "    if True:\n        return Known(place)",
        (f"{CERTIFICATES}::test_what_differs_from_example_to_example_is_refused_as_such",),
    ),
    Mutant(
        "axes may be that of the batch",
        "models/rules/call.py",
        "    if 0 in found:\n",
        "    if False:\n",
        (f"{CERTIFICATES}::test_what_differs_from_example_to_example_is_refused_as_such",),
    ),
    Mutant(
        "constants may differ from example to example",
        "models/rules/call.py",
        "if fixed.shape[0] != self.n or not bool((fixed == fixed[:1]).all()):",
        "if False:",
        (f"{CERTIFICATES}::test_what_differs_from_example_to_example_is_refused_as_such",),
    ),
    Mutant(
        "the factor of a sum is ignored",
        "models/rules/arithmetic.py",
        '[(1.0, c["self"]), (_number(c["alpha"]), c["other"])]',
        '[(1.0, c["self"]), (1.0, c["other"])]',
        (f"{GRAPHS}::test_the_operators_are_the_module", case("copies: alpha-interval")),
    ),
    Mutant(
        "a difference is a sum",
        "models/rules/arithmetic.py",
        '[(1.0, c["self"]), (-_number(c["alpha"]), c["other"])]',
        '[(1.0, c["self"]), (_number(c["alpha"]), c["other"])]',
        (f"{GRAPHS}::test_the_operators_are_the_module",),
    ),
    Mutant(
        "copies keep lengths",
        "certification/norms.py",
        "        return _positive_norm(map)\n",
        "        return 1.0\n",
        (f"{NORMS}::test_maps_without_negative_entries",),
    ),
    Mutant(
        "overlapping windows count once",
        "models/rules/windows.py",
        "        overlap,\n        None if ceil",
        "        1,\n        None if ceil",
        (f"{CERTIFICATES}::test_layers_have_their_true_constants",),
    ),
    Mutant(
        "adaptive maxima count once",
        "models/rules/windows.py",
        "func(x, size)[0], overlap)",
        "func(x, size)[0], 1)",
        (case("copies: adaptive maxima-lipschitz"),),
    ),
    Mutant(
        "a negative divisor of a pool is taken",
        "models/rules/windows.py",
        'if (c.arguments.get("divisor_override") or 1) < 0:',
        "if False:",
        (f"{CERTIFICATES}::test_a_pool_with_a_divisor_of_its_own_is_refused",),
    ),
    Mutant(
        "halves are not checked before a sort is seen",
        "models/rules/moves.py",
        "if size % 2 or set(pieces) != {(source, axis, 0, half), (source, axis, half, size)}:",
        "if size % 2:",
        (f"{CERTIFICATES}::test_halves_that_are_not_halves_are_no_sort",),
    ),
    Mutant(
        "minimum and maximum of other values make a sort",
        "models/rules/moves.py",
        "    if set(made[0][1:]) != set(made[1][1:]):\n        return None\n",
        "",
        (f"{CERTIFICATES}::test_halves_that_are_not_halves_are_no_sort",),
    ),
    Mutant(
        "batch normalisation ignores its eps",
        "models/rules/affine.py",
        'scale = (var + float(c["eps"])).rsqrt()',
        "scale = var.rsqrt()",
        (f"{CERTIFICATES}::test_a_usual_residual_network_has_sound_bounds",),
    ),
    Mutant(
        "batch normalisation over the batch is taken",
        "models/rules/affine.py",
        'if c.arguments.get("training") or c["running_mean"] is None or c["running_var"] is None:',
        "if False:",
        (f"{CERTIFICATES}::test_what_differs_from_example_to_example_is_refused_as_such",),
    ),
    Mutant(
        "layer normalisation ignores its eps",
        "models/rules/affine.py",
        'RootMeanSquare(1, float(c["eps"]))',
        "RootMeanSquare(1, 1e-5)",
        (f"{CERTIFICATES}::test_layer_normalisation_keeps_its_eps",),
    ),
    Mutant(
        "layer normalisation does not centre",
        "models/rules/affine.py",
        "torch.eye(size, dtype=torch.float64, device=device) - 1 / size",
        "torch.eye(size, dtype=torch.float64, device=device)",
        (f"{CERTIFICATES}::test_layer_normalisation_keeps_its_eps",),
    ),
    Mutant(
        "two passes are alike whatever they compute",
        "models/trace.py",
        "        if not _alike(one, other):\n",
        "        if False:\n",
        (f"{CERTIFICATES}::test_the_recorder_itself_refuses_what_is_no_function_of_an_example",),
    ),
    Mutant(
        "constants are not compared",
        "models/trace.py",
        "return u.dtype == v.dtype and u.shape == v.shape and _equal(u, v)",
        "return True",
        (f"{CERTIFICATES}::test_the_recorder_itself_refuses_what_is_no_function_of_an_example",),
    ),
    Mutant(
        "constants from out of sight are not compared",
        "models/trace.py",
        "        if made is not again:\n",
        "        if False:\n",
        (
            case("opaque: thread-interval"),
            case("opaque: thread-lipschitz"),
        ),
    ),
    Mutant(
        "what is written in place does not make its views stale",
        "models/trace.py",
        "self._written[_storage(tensor)] = self._written.get(_storage(tensor), 0) + 1",
        "self._written[_storage(tensor)] = self._written.get(_storage(tensor), 0)",
        (f"{CERTIFICATES}::test_what_is_overwritten_in_place_is_followed_or_refused",),
    ),
    Mutant(
        "memory shared with what was overwritten is a constant",
        "models/trace.py",
        "        if storage is not None and storage in self._written:\n",
        "        if False:\n",
        (f"{CERTIFICATES}::test_the_recorder_itself_refuses_what_is_no_function_of_an_example",),
    ),
    Mutant(
        "values may leave by item() and branches",
        "models/trace.py",
        "        if _BY_VALUE & set(func.tags) and not fixed:\n",
        "        if False:\n",
        (
            case("opaque: item-interval"),
            case("opaque: item-lipschitz"),
            case("opaque: branch-interval"),
            case("opaque: branch-lipschitz"),
            case("opaque: rare nonzero-interval"),
            case("opaque: rare nonzero-lipschitz"),
            case("opaque: rare selection-interval"),
            case("opaque: rare selection-lipschitz"),
            case("opaque: equal-interval"),
            case("opaque: equal-lipschitz"),
            case("opaque: allclose-interval"),
            case("opaque: allclose-lipschitz"),
        ),
    ),
    Mutant(
        "values may leave by numpy()",
        "models/trace.py",
        "if name in _LEAKS and args and self.recorder.known(args[0]) is not None:",
        "if False:",
        (
            case("opaque: numpy-interval"),
            case("opaque: numpy-lipschitz"),
            case("opaque: list-interval"),
            case("opaque: list-lipschitz"),
            case("opaque: dlpack-interval"),
            case("opaque: dlpack-lipschitz"),
            case("opaque: array-interval"),
            case("opaque: array-lipschitz"),
        ),
    ),
    Mutant(
        "random numbers are constants",
        "models/trace.py",
        "for tensor in tree_leaves(out) if random else ():",
        "for tensor in ():",
        (f"{CERTIFICATES}::test_the_recorder_itself_refuses_what_is_no_function_of_an_example",),
    ),
    Mutant(
        "what outputs= does is not recorded",
        "models/torch.py",
        "lambda z: self._logits(self.module(z)), x)",
        "lambda z: self.module(z), x)",
        (
            case("outputs: scaled-interval"),
            case("outputs: scaled-lipschitz"),
            case("outputs: permuted-interval"),
            case("outputs: permuted-lipschitz"),
            case("outputs: negated-interval"),
            case("outputs: negated-lipschitz"),
            case("pick of a dictionary-interval"),
            case("pick of a dictionary-lipschitz"),
        ),
    ),
    Mutant(
        "operators are kept when the weights change",
        "models/torch.py",
        "            if self._steps[0] != self._held.key:\n",
        '            if self._steps[0] == "":\n',
        (f"{CERTIFICATES}::test_operators_follow_the_weights",),
    ),
    Mutant(
        "changes to a held model are not looked for",
        "models/torch.py",
        "        self._check_unchanged(before)\n",
        "",
        (HELD,),
    ),
    Mutant(
        "the checksum ignores the place of a weight",
        "models/held.py",
        "return _mixed(torch.arange(1, _ROW + 1, device=device) * _GAMMA) | 1",
        "return torch.ones(_ROW, dtype=torch.int64, device=device)",
        (f"{RUN}::test_a_method_that_swaps_two_weights_is_found_out",),
    ),
    Mutant(
        "the digest is of the names alone",
        "models/held.py",
        "            whole.update(piece.cpu().numpy().data)\n",
        "            pass\n",
        ("tests/unit/models/test_models_torch.py::test_the_digest_is_of_names_and_values",),
    ),
    Mutant(
        "a secant is the derivative at its left end",
        "attribution/passes.py",
        "        partner[starts] = partner[ends]\n",
        "",
        (f"{ATTRIBUTION}::test_one_panel_is_exact_where_derivatives_at_its_ends_are_not",),
    ),
    Mutant(
        "several quantities have the gradient of the first",
        "attribution/passes.py",
        "found += gradients(values[-1], at,",
        "found += gradients(values[0], at,",
        (f"{SEVERAL}::test_rows_of_a_linear_model_come_back_each_as_its_own_saliency",),
    ),
    Mutant(
        "several quantities are laid out cut by cut",
        "attribution/influence.py",
        "whole.values[k * size : (k + 1) * size]",
        "whole.values[k :: len(quantities)]",
        (f"{SEVERAL}::test_quantities_together_are_those_alone_at_the_forwards_of_one",),
    ),
    Mutant(
        "a cut has other noise for each quantity",
        "core/distribution.py",
        "        cuts = tuple(dict.fromkeys(cuts))\n",
        "",
        (f"{SEVERAL}::test_quantities_together_are_those_alone_at_the_forwards_of_one",),
    ),
    Mutant(
        "every quantity is held to the change of the first",
        "core/run.py",
        "None if changes is None else changes[k]",
        "None if changes is None else changes[0]",
        (f"{SEVERAL}::test_quantities_together_are_those_alone_at_the_forwards_of_one",),
    ),
    Mutant(
        "a quantity about two classes takes them the other way round",
        "core/quantity.py",
        "told.expand(len(outputs)",
        "told.flip([0] * told.ndim).expand(len(outputs)",
        (f"{SEVERAL}::test_rows_of_a_linear_model_come_back_each_as_its_own_saliency",),
    ),
    Mutant(
        "nearest words are the farthest",
        "audit/tokens.py",
        "alike.sort(dim=1, descending=True, stable=True)",
        "(-alike).sort(dim=1, descending=True, stable=True)",
        (f"{TEXTS}::test_nearest_words_are_those_of_the_least_angle_and_cap_no_verdict",),
    ),
    Mutant(
        "words that nobody vouches for cap a verdict",
        "audit/sections/robustness/claims.py",
        "ruling = NO_CAP if under.norm == NEAREST else ruling",
        "ruling = NO_CAP if under.norm == 'none' else ruling",
        (f"{TEXTS}::test_nearest_words_are_those_of_the_least_angle_and_cap_no_verdict",),
    ),
    Mutant(
        "a candidate may be replaced by its word as well",
        "data/sentences.py",
        "            found.setdefault(number[row[0]], []).extend(number[word] for word in row[1:])\n",
        "            found.setdefault(number[row[0]], []).extend(number[word] for word in row[1:])\n"
        "            found.setdefault(number[row[1]], []).append(number[row[0]])\n",
        ("tests/unit/data/test_data_sentences.py::test_candidates_lead_one_way",),
    ),
    Mutant(
        "every axis of a mask is shifted as the first",
        "attribution/rise.py",
        "first = (moves[:, axis] * cell).long()",
        "first = (moves[:, 0] * cell).long()",
        (
            "tests/reference/test_perturbation.py::"
            "test_each_axis_of_a_mask_is_shifted_by_a_draw_of_its_own",
        ),
    ),
    Mutant(
        "regions of each example are those of the first batch",
        "metrics/localisation.py",
        "return region[keep.to(region.device)]",
        "return region[: len(keep)]",
        ("tests/reference/test_scores.py::test_regions_of_each_example_go_with_their_examples",),
    ),
    Mutant(
        "small elements count as a share of the mean",
        "metrics/relative.py",
        "(SMALL * size.amax(1, keepdim=True))",
        "(SMALL * size.mean(1, keepdim=True))",
        (
            "tests/reference/test_scores.py::"
            "test_small_elements_of_relative_changes_count_as_a_share_of_the_largest",
        ),
    ),
    Mutant(
        "top units are reported on the half on which they were chosen",
        "audit/sections/explain/inside.py",
        "top = [_top(unit, second, alpha) for unit",
        "top = [_top(unit, {**second, 'sum': first['sum']}, alpha) for unit",
        ("tests/unit/audit/test_inside.py::test_the_top_units_are_those_of_the_drawn_examples",),
    ),
    Mutant(
        "a text passes for a number",
        "core/counted.py",
        "if not isinstance(value, wanted) or isinstance(value, bool):",
        "if isinstance(value, bool):",
        ("tests/unit/core/test_counted.py",),
    ),
    Mutant(
        "the slope of a norm counts both ends alike",
        "models/slopes.py",
        "first, second = 1 / (one * w) - both, 1 / (two * w) - both",
        "second, first = 1 / (one * w) - both, 1 / (two * w) - both",
        (f"{SECOND}::test_the_slope_of_a_normalisation_is_its_mean_derivative_on_the_way",),
    ),
    Mutant(
        "a memory owes to its gate what it holds at one end",
        "models/gates.py",
        "ends.slope(slopes.sigmoid, z[1]) * ends.mean(before)",
        "ends.slope(slopes.sigmoid, z[1]) * before",
        (f"{RECURRENT}::test_secants_are_those_of_cells_pushed_forwards_one_input_at_a_time",),
    ),
    Mutant(
        "what an update owes to its gate is the new state alone",
        "models/gates.py",
        "ends.mean(ends.before - inner.tanh())",
        "ends.mean(-inner.tanh())",
        (f"{RECURRENT}::test_secants_are_those_of_cells_pushed_forwards_one_input_at_a_time",),
    ),
    Mutant(
        "the way back through time is not turned round",
        "models/recurrent.py",
        "both.append(out.flip(1) if backwards else out)",
        "both.append(out)",
        (f"{RECURRENT}::test_rows_that_are_their_own_partners_have_derivatives",),
    ),
    Mutant(
        "a batch of sequences is believed to stand where the layer has it",
        "models/recurrent.py",
        "fine = (not z.requires_grad or (z in seconds) is not first) and all(",
        "fine = True or all(",
        (f"{RECURRENT}::test_what_cannot_be_followed_is_refused_by_name",),
    ),
    Mutant(
        "more changes are added up than a byte holds",
        "models/switches.py",
        "_CARRIED = 255 ",
        "_CARRIED = 511 ",
        (f"{SECOND}::test_changes_are_counted_whatever_the_width",),
    ),
    Mutant(
        "padding of the batch keeps its rows",
        "models/linear.py",
        "len(call.args[1]) // 2 < z.ndim",
        "len(call.args[1]) // 2 <= z.ndim",
        (SECANT,),
    ),
    Mutant(
        "gates are smooth",
        "models/switches.py",
        "        if name in RECURRENT:",
        "        if name in {'rnn_relu'}:",
        (f"{RECURRENT}::test_gates_are_looked_at_on_which_side_of_zero_they_are",),
    ),
    Mutant(
        "attention looks where a boolean mask forbids it",
        "models/multihead.py",
        "scores.masked_fill(mask, -torch.inf)",
        "scores.masked_fill(~mask, -torch.inf)",
        (f"{SECOND}::test_the_function_of_torch_takes_boolean_masks_itself",),
    ),
    Mutant(
        "who may look at none looks at all that are masked",
        "models/product_rules.py",
        "softmax(ends, scores, -1, name).masked_fill(none, 0)",
        "softmax(ends, scores, -1, name)",
        (f"{SECOND}::test_encoders_see_padding_alike_with_and_without_a_graph",),
    ),
    Mutant(
        "whole numbers at a cut are asked for a gradient",
        "models/cuts.py",
        "if torch.is_grad_enabled() and taken.is_floating_point() and not taken.requires_grad:",
        "if torch.is_grad_enabled() and not taken.requires_grad:",
        ("tests/unit/models/test_models_cuts.py",),
    ),
    Mutant(
        "attention goes another way without a graph",
        "models/cuts.py",
        "torch.backends.mha.set_fastpath_enabled(False)",
        "torch.backends.mha.set_fastpath_enabled(True)",
        (f"{SECOND}::test_encoders_see_padding_alike_with_and_without_a_graph",),
    ),
    Mutant(
        "attention is scaled by the width of all heads",
        "models/multihead.py",
        "q / math.sqrt(q.shape[-1])",
        "q / math.sqrt(q.shape[-1] * q.shape[1])",
        (f"{SECOND}::test_attention_of_torch_is_explained_as_the_same_written_out",),
    ),
    Mutant(
        "a batch that stands second is believed to be followed anywhere",
        "models/second.py",
        "return rows.equal(marks(len(rows), rows.device))",
        "return True",
        (f"{SECOND}::test_the_batch_is_found_where_it_is_as_long_as_the_sequence",),
    ),
    Mutant(
        "pieces of a batch that stands second are not seen",
        "models/switches.py",
        "return value.ndim > 2 and len(value) not in self.sizes and value.shape[1] in self.sizes",
        "return False",
        (f"{SECOND}::test_a_network_with_the_batch_second_is_not_taken_for_a_smooth_one",),
    ),
    Mutant(
        "a panel has the gradient at its right end",
        "attribution/passes.py",
        "                passed[start].gradients,\n",
        "                passed[end].gradients,\n",
        (f"{ATTRIBUTION}::test_one_panel_is_exact_where_derivatives_at_its_ends_are_not",),
    ),
    Mutant(
        "the slope of a row's partner is that of the row",
        "models/secant_rules.py",
        "return gradient * slope(z, z[partner])",
        "return gradient * slope(z, z)",
        (f"{SECANT}::test_every_rule_is_complete_and_keeps_the_values",),
    ),
    Mutant(
        "the slope of a row's partner is that of the row, some rows at a time",
        "models/secant_rules.py",
        "z.index_select(0, there)",
        "here",
        (f"{SECANT}::test_slopes_are_the_same_some_rows_at_a_time",),
    ),
    Mutant(
        "rows that an operation mixes or moves are not looked for",
        "models/linear.py",
        "    if not _keeps_rows(call, made[0]) and _mixes_rows(call):\n",
        "    if False:\n",
        (f"{SECANT}::test_what_has_no_secant_is_refused_by_name",),
    ),
    Mutant(
        "what broadcasts keeps rows",
        "models/linear.py",
        "return all(t.ndim == made.ndim and len(t) == len(made) for t in call.given)",
        "return True",
        (f"{SECANT}::test_what_has_no_secant_is_refused_by_name",),
    ),
    Mutant(
        "midpoints take the place of panels in silence",
        "attribution/passes.py",
        "                _log.warning(\n",
        "                _log.debug(\n",
        (f"{ATTRIBUTION}::test_where_no_secant_is_known_midpoints_take_their_place",),
    ),
    Mutant(
        "the larger of two values has the slope of a row",
        "models/secant_rules.py",
        "share = slopes.relu(d, d[partner])",
        "share = slopes.relu(d, d)",
        (f"{SECANT}::test_every_rule_is_complete_and_keeps_the_values",),
    ),
    Mutant(
        "what has no secant keeps its derivative",
        "models/secant.py",
        "            check_linear(call)\n",
        "",
        (f"{SECANT}::test_what_has_no_secant_is_refused_by_name",),
    ),
    Mutant(
        "rows of padding are partners of the first",
        "models/secant.py",
        "padding = torch.arange(len(partner), size, device=partner.device)",
        "padding = torch.arange(len(partner), size, device=partner.device) * 0",
        (SECANT,),
        "rows of padding are cut off, and their gradients with them",
    ),
    Mutant(
        "both ways begin with the states of the first",
        "models/recurrent.py",
        "tuple(h[place] for h in begun)",
        "tuple(h[layer] for h in begun)",
        ("tests/unit/models/test_models_recurrent.py",),
    ),
    Mutant(
        "what needs no padding is not copied",
        "models/cuts.py",
        "        return value.clone()\n    return torch.cat",
        "        return value\n    return torch.cat",
        ("tests/unit/models/test_models_passes.py",),
    ),
    Mutant(
        "passes of a module that only reads are filled to fours",
        "models/torch.py",
        "and len(x) == filled(len(x), least_of(x))",
        "and len(x) == filled(len(x))",
        ("tests/unit/models/test_models_passes.py",),
    ),
    Mutant(
        "rows are looked at in one size of a pass",
        "models/between.py",
        "for count in (few, size + TILE) if few else ():",
        "for count in (few,) if few else ():",
        ("tests/unit/models/test_models_passes.py",),
    ),
    Mutant(
        "passes of small inputs are not filled",
        "models/cuts.py",
        "return max(count + -count % TILE, least) if count else 0",
        "return count + -count % TILE",
        ("tests/unit/models/test_models_passes.py",),
    ),
    Mutant(
        "passes of large inputs are filled as those of small ones",
        "models/cuts.py",
        "x.shape[1:].numel() <= SMALL",
        "x.shape[1:].numel() >= 0",
        ("tests/unit/models/test_models_passes.py",),
    ),
    Mutant(
        "slopes do not end with their context",
        "models/secant.py",
        "        for mode in active:\n            mode.active = True\n",
        "        pass\n",
        (SECANT,),
    ),
)

METHODS = (
    Mutant(
        "FMN's radius grows while the example has fallen",
        "attacks/fmn.py",
        "inwards = torch.minimum(turn.eps * (1 - share), turn.nearest)",
        "inwards = torch.minimum(turn.eps * (1 + share), turn.nearest)",
        (f"{NEAREST}::test_the_search_is_that_of_the_text",),
    ),
    Mutant(
        "FMN's first radius is not that of the boundary",
        "attacks/fmn.py",
        "eps = torch.minimum(length * (1 + BEYOND), limit)",
        "eps = torch.minimum(length / 8, limit)",
        (f"{NEAREST}::test_the_search_is_that_of_the_text",),
    ),
    Mutant(
        "FMN knows no dual norm",
        "attacks/fmn.py",
        "(value.double() - quantity.goal).abs() / gain",
        "(value.double() - quantity.goal).abs()",
        (f"{NEAREST}::test_the_search_is_that_of_the_text",),
    ),
    Mutant(
        "FMN steps along the sparse direction of l1",
        "attacks/fmn.py",
        "return _euclidean(threat) if isinstance(threat, Ball) else threat",
        "return threat",
        (f"{NEAREST}::test_the_distance_of_a_linear_model_is_exact",),
    ),
    Mutant(
        "FMN ascends",
        "attacks/fmn.py",
        "project(z - column(length",
        "project(z + column(length",
        (f"{NEAREST}::test_the_search_is_that_of_the_text",),
    ),
    Mutant(
        "DDN's radius moves one way",
        "attacks/ddn.py",
        "torch.where(turn.fell, 1 - self.shrink, 1 + self.shrink)",
        "(1 - self.shrink)",
        (f"{NEAREST}::test_the_search_is_that_of_the_text",),
    ),
    Mutant(
        "the farthest class's boundary is taken",
        "core/linearised.py",
        "        nearer = length < shortest\n",
        "        nearer = (length > shortest) | shortest.isinf()\n",
        (f"{NEAREST}::test_deepfool_is_that_of_the_paper",),
    ),
    Mutant(
        "a boundary's distance forgets the goal",
        "core/linearised.py",
        "part.detach().double() - quantity.goal,",
        "part.detach().double(),",
        (f"{NEAREST}::test_what_falls_lies_on_the_boundary",),
    ),
    Mutant(
        "DeepFool does not overshoot",
        "attacks/deepfool.py",
        "path[open_] = part.x + (1 + self.overshoot) *",
        "path[open_] = part.x +",
        (f"{NEAREST}::test_deepfool_is_that_of_the_paper",),
    ),
    Mutant(
        "the nearest point is the last that fell",
        "attacks/nearest.py",
        "nearer = fell & (distance < self.distance[rows])",
        "nearer = fell",
        (f"{NEAREST}::test_the_nearest_that_fell_and_the_least_are_kept",),
    ),
    Mutant(
        "what is found is not drawn to the boundary",
        "attacks/nearest.py",
        "drawn[fell] = met(on_path, value, (value(x), value(end)), end, HALVINGS)",
        "drawn[fell] = end",
        (f"{NEAREST}::test_what_falls_lies_on_the_boundary",),
    ),
    Mutant(
        "the least quantity is not kept",
        "attacks/nearest.py",
        "self.worst[rows] = torch.where(column(lower, z), z, self.worst[rows])",
        "self.worst[rows] = self.worst[rows]",
        (f"{NEAREST}::test_beyond_the_radius_the_least_quantity_comes_back",),
    ),
    Mutant(
        "the weight of the quantity falls while the example stands",
        "attacks/carlini_wagner.py",
        "weight = torch.where(low == 0, high / FACTOR, middle)",
        "weight = weight / FACTOR",
        (f"{NEAREST}::test_the_distance_of_a_linear_model_is_exact",),
    ),
    Mutant(
        "Adam is not corrected for its start",
        "attacks/carlini_wagner.py",
        "(self.square / (1 - second ** (step + 1))).sqrt()",
        "self.square.sqrt()",
        (f"{NEAREST}::test_the_weighted_sum_is_minimised_by_adam",),
    ),
    Mutant(
        "the way back through tanh has no slope",
        "attacks/carlini_wagner.py",
        "return self.side * torch.where(self.boxed, 1 - w.tanh() ** 2, 1)",
        "return self.side",
        (f"{NEAREST}::test_the_change_of_variables_is_that_of_the_paper",),
    ),
    Mutant(
        "restarts forget the best",
        "attacks/kept.py",
        "        better = value < self.least[rows]\n",
        "        better = torch.ones_like(value, dtype=torch.bool)\n",
        (f"{ATTACKS}::test_the_best_point_seen_is_what_comes_back",),
    ),
    Mutant(
        "every restart starts at the same point",
        "attacks/descent.py",
        'rng = batch.rng.fold("restart").fold(restart)',
        'rng = batch.rng.fold("restart")',
        (f"{ATTACKS}::test_more_restarts_find_no_less_of_a_logit",),
    ),
    Mutant(
        "a descent ends where it is, not where it was best",
        "attacks/descent.py",
        "better = self.open & (value < self.least)",
        "better = self.open",
        (f"{ATTACKS}::test_the_best_point_seen_is_what_comes_back",),
    ),
    Mutant(
        "a tie goes on",
        "attacks/descent.py",
        "self.open = self.open & (value > goal)",
        "self.open = self.open & (value >= goal)",
        (f"{ATTACKS}::test_a_tie_is_a_success",),
    ),
    Mutant(
        "a restart takes ties again",
        "attacks/kept.py",
        "return (self.least > goal).nonzero()[:, 0]",
        "return (self.least >= goal).nonzero()[:, 0]",
        (f"{ATTACKS}::test_a_tie_is_a_success",),
    ),
    Mutant(
        "the surrogate judges",
        "attacks/descent.py",
        "                value = quantity(outputs, batch.aim)\n",
        "                pass\n",
        (f"{ATTACKS}::test_restarts_never_hurt_and_success_is_judged_by_the_quantity",),
    ),
    Mutant(
        "the last step is not looked at",
        "attacks/descent.py",
        "            found.see(z, quantity(model(batch.at(z)), batch.aim), quantity.goal)\n",
        "            pass\n",
        (f"{ATTACKS}::test_fgsm_is_one_signed_step_of_the_cross_entropy",),
    ),
    Mutant(
        "an attack ascends",
        "attacks/descent.py",
        "threat.steepest(-gradient, z)",
        "threat.steepest(gradient, z)",
        (f"{ATTACKS}::test_fgsm_is_one_signed_step_of_the_cross_entropy",),
    ),
    Mutant(
        "those that leave are not written down",
        "attacks/descent.py",
        '        """Write the points down and go on with the rows ``keep``."""\n'
        "        self.whole()\n",
        '        """Write the points down and go on with the rows ``keep``."""\n',
        (
            f"{ATTACKS}::test_company_does_not_change_an_attack",
            f"{ATTACKS}::test_a_tie_is_a_success",
        ),
    ),
    Mutant(
        "the nearest point need not be in the set",
        "attacks/closest.py",
        "return still & contained(near_by, point, part.x)",
        "return still",
        (
            f"{ATTACKS}::test_closest_finds_the_exact_distance_of_a_linear_model",
            f"{ATTACKS}::test_a_tie_is_a_success",
        ),
        "on the segment to a point of a convex set only rounding leads out, and the driver looks",
    ),
    Mutant(
        "the bisection takes points that are not fooled",
        "core/boundary.py",
        "near, far = torch.where(still, near, middle), torch.where(still, middle, far)",
        "near, far = torch.where(still, middle, near), torch.where(still, far, middle)",
        (f"{ATTACKS}::test_closest_finds_the_exact_distance_of_a_linear_model",),
    ),
    Mutant(
        "a tie is not fooled",
        "attacks/closest.py",
        "still = quantity(model(part.at(point)), part.aim) <= quantity.goal",
        "still = quantity(model(part.at(point)), part.aim) < quantity.goal",
        (f"{ATTACKS}::test_a_tie_is_a_success",),
    ),
    Mutant(
        "the last of several attacks counts",
        "attacks/worst_of.py",
        "kept.take(standing, value, found)",
        "kept.least[standing], kept.best[standing] = value, found",
        (f"{ATTACKS}::test_attacks_in_turn_keep_the_worst",),
    ),
    Mutant(
        "several attacks share their random numbers",
        "attacks/worst_of.py",
        'rng=part.rng.fold("attack").fold(number)',
        "rng=part.rng",
        (f"{ATTACKS}::test_attacks_in_turn_do_not_share_their_random_numbers",),
    ),
    Mutant(
        "gradient times input is the gradient",
        "core/distribution.py",
        "return Estimate(tuple(g * z for g, z in zip(seen.gradients, seen.at, strict=True)))",
        "return Estimate(seen.gradients)",
        (f"{ATTRIBUTION}::test_linear_models_are_exact_at_every_budget",),
    ),
    Mutant(
        "where no secant is known the gradient at the start is taken",
        "attribution/passes.py",
        "return {cut: (value + panel.to[cut]) / 2 for cut, value in panel.put.items()}",
        "return dict(panel.put)",
        (f"{ATTRIBUTION}::test_where_no_secant_is_known_midpoints_take_their_place",),
    ),
    Mutant(
        "two panels from one node share its row",
        "attribution/passes.py",
        "        if start in leaving:\n            start = len(points)\n            "
        "points.append(probe.put)\n",
        "",
        (ATTRIBUTION,),
        "no distribution of the library asks for two panels from one node",
    ),
    Mutant(
        "a gradient that does not depend on its place is refused, or not",
        "core/gradient.py",
        "    if all(gradient is None for gradient in found):\n",
        "    if False:\n",
        (QUANTITY,),
    ),
    Mutant(
        "the audit has no alarm",
        "audit/sections/robustness/sweep.py",
        "    if bool(contradicted.any()):\n",
        "    if False:\n",
        (f"{SWEEP}::test_an_attack_that_contradicts_a_certificate_is_an_alarm",),
    ),
    Mutant(
        "the audit compares with the radius alone",
        "audit/sections/robustness/sweep.py",
        '(distance <= sweep.eps(data) * exact) & (proof["lower"] > 0)',
        '(distance <= sweep.eps(data) * exact) & (proof["lower"] > 1e9)',
        (f"{SWEEP}::test_an_attack_that_contradicts_a_certificate_is_an_alarm",),
    ),
    Mutant(
        "the audit compares with the bound alone",
        "audit/sections/robustness/sweep.py",
        'contradicted = (distance < proof["radius"] * exact) | (',
        'contradicted = (distance < proof["radius"] * 0) | (',
        (f"{SWEEP}::test_an_attack_that_contradicts_a_certificate_is_an_alarm",),
    ),
    Mutant(
        "every certificate of an audit is of the deployed network",
        "audit/sections/robustness/sweep.py",
        '"deployed": torch.full((len(data),), deployed)}',
        '"deployed": torch.full((len(data),), True)}',
        (f"{SWEEP}::test_an_attack_that_contradicts_a_certificate_is_an_alarm",),
    ),
    Mutant(
        "models without a digest are one model",
        "audit/binding.py",
        "s.weights or _never(s)",
        's.weights or "unknown"',
        ("tests/unit/audit/test_engine.py::test_a_model_without_a_digest_is_never_gone_on_with",),
    ),
    Mutant(
        "a faint gradient has vanished",
        "audit/sections/robustness/sweep.py",
        "values.flatten(1).abs().amax(1) == 0",
        "values.flatten(1).abs().amax(1) < 1e-6",
        (f"{SWEEP}::test_a_gradient_that_vanishes_is_flagged_and_a_faint_one_is_not",),
    ),
    Mutant(
        "a random model is audited",
        "audit/subject.py",
        "    if not torch.equal(first, again):\n",
        "    if False:\n",
        ("tests/unit/audit/test_subject.py::test_a_model_that_cannot_be_audited_is_refused",),
    ),
    Mutant(
        "the audit certifies no further than eps",
        "audit/sections/robustness/sweep.py",
        "self.eps(data) * self.reach, dtype=data.x.dtype",
        "self.eps(data), dtype=data.x.dtype",
        (f"{SWEEP}::test_a_certificate_that_is_tight_is_no_false_alarm",),
    ),
    Mutant(
        "a sweep of a folder takes what is not an audit's",
        "audit/store.py",
        'return name.startswith(".") and ASIDE in name',
        'return name.startswith(".")',
        ("tests/unit/audit/test_store.py",),
    ),
    Mutant(
        "too few findings are trust",
        "audit/finding.py",
        "default=Verdict.TOO_FEW",
        "default=Verdict.TRUST",
        ("tests/unit/audit/test_rules.py",),
    ),
    Mutant(
        "an accuracy that ranks wrongly is passed over",
        "audit/manifest.py",
        "    if accuracy[best.model].value < accuracy[leader].value:\n",
        "    if False:\n",
        ("tests/unit/audit/test_manifest.py",),
    ),
    Mutant(
        "the data of a card may have any shape",
        "audit/subject.py",
        "    if subject.shape is not None and shape != subject.shape:\n",
        "    if False:\n",
        ("tests/unit/audit/test_sources.py",),
    ),
)

_BOX = f"{CERTIFICATES}::test_the_box_of_an_affine_map_holds_its_real_values"
_RATIONAL = f"{CERTIFICATES}::test_interval_bounds_hold_in_rational_arithmetic"
_LINEAR = f"{DEPLOYED}::test_a_linear_network_at_its_certified_radius"
_ORDERS = f"{DEPLOYED}::test_no_order_of_summation_contradicts_a_deployed_bound"
_RANDOM = f"{DEPLOYED}::test_random_inputs_of_single_precision_stay_above_a_deployed_bound"

OTHER_DOMAINS = (
    Mutant(
        "a token in the set may be any of the vocabulary",
        "core/substitution.py",
        "allowed = (self.options(x) == z[:, :, None]).any(2) & (z >= 0)",
        "allowed = z >= 0",
        (f"{SUBSTITUTION}::test_membership_is_that_of_the_definition",),
    ),
    Mutant(
        "the filling of the candidates is a token",
        "core/substitution.py",
        ".any(2) & (z >= 0)",
        ".any(2)",
        (f"{SUBSTITUTION}::test_membership_is_that_of_the_definition",),
    ),
    Mutant(
        "the budget of tokens does not bind",
        "core/substitution.py",
        "allowed).all(1) & (self.distance(z, x) <= self.radius(x))",
        "allowed).all(1)",
        (f"{SUBSTITUTION}::test_membership_is_that_of_the_definition",),
    ),
    Mutant(
        "a protected token may be replaced",
        "core/substitution.py",
        "            stays = stays | ~self.mask[:, :, None]\n",
        "            stays = stays & ~self.mask[:, :, None]\n",
        (f"{SUBSTITUTION}::test_membership_is_that_of_the_definition",),
    ),
    Mutant(
        "a candidate twice in the list is drawn twice as often",
        "core/substitution.py",
        "return known.masked_fill(again, -1)",
        "return known.masked_fill(again & False, -1)",
        (f"{SUBSTITUTION}::test_options_are_the_candidates_of_each_place_once",),
    ),
    Mutant(
        "samples of tokens take the first candidate",
        "core/substitution.py",
        "number = (share * count).long()",
        "number = (share * 0).long()",
        (f"{SUBSTITUTION}::test_samples_use_up_the_budget_and_every_candidate",),
    ),
    Mutant(
        "edits are tried on another's sequence",
        "attacks/trial.py",
        "        edited = z[self.owner[rows]]\n",
        "        edited = z[self.owner[rows].roll(1)]\n",
        (f"{TOKENS}::test_edits_are_tried_each_by_itself",),
    ),
    Mutant(
        "the filling of a pass is taken for an edit",
        "attacks/trial.py",
        "last = (each.cumsum(0) - 1)",
        "last = (each.cumsum(0) - each)",
        (f"{TOKENS}::test_edits_are_tried_each_by_itself",),
    ),
    Mutant(
        "greedy visits the least important place first",
        "attacks/greedy.py",
        "least.argsort(dim=1, stable=True)",
        "least.argsort(dim=1, stable=True, descending=True)",
        (f"{TOKENS}::test_greedy_does_what_the_paper_says",),
    ),
    Mutant(
        "greedy takes the candidate that helps the defender",
        "attacks/greedy.py",
        "            lower = value < least[open_]\n",
        "            lower = value > least[open_]\n",
        (f"{TOKENS}::test_the_least_of_a_sum_over_places_is_reached",),
    ),
    Mutant(
        "greedy measures importance by candidates although a blank is given",
        "attacks/greedy.py",
        "tokens = options if self.blank is None else",
        "tokens = options if True else",
        (f"{TOKENS}::test_greedy_does_what_the_paper_says",),
    ),
    Mutant(
        "greedy spends budget on what it did not replace",
        "attacks/greedy.py",
        "left[open_] -= lower.double()",
        "left[open_] -= 1",
        (f"{TOKENS}::test_greedy_does_what_the_paper_says",),
    ),
    Mutant(
        "HotFlip follows the gradient upwards",
        "attacks/embedding.py",
        "(gradient * there).flatten(2).sum(2).double() - here",
        "here - (gradient * there).flatten(2).sum(2).double()",
        (f"{TOKENS}::test_hotflip_does_what_the_paper_says",),
    ),
    Mutant(
        "HotFlip ranks by the new embedding alone",
        "attacks/embedding.py",
        ".sum(2).double() - here",
        ".sum(2).double()",
        (f"{TOKENS}::test_hotflip_does_what_the_paper_says",),
    ),
    Mutant(
        "a beam keeps a sequence twice",
        "attacks/hotflip.py",
        "torch.cat([same.new_ones(min(1, len(order))), ~same])",
        "torch.cat([same.new_ones(min(1, len(order))), same | True])",
        (f"{TOKENS}::test_hotflip_does_what_the_paper_says",),
    ),
    Mutant(
        "a beam goes on with the worst",
        "attacks/hotflip.py",
        "        order = order[value[order].argsort(stable=True)]\n",
        "        order = order[(-value[order]).argsort(stable=True)]\n",
        (f"{TOKENS}::test_hotflip_does_what_the_paper_says",),
    ),
    Mutant(
        "HotFlip replaces a token again",
        "attacks/hotflip.py",
        "free = (options >= 0) & (beam.z == x[beam.owner])[:, :, None]",
        "free = options >= 0",
        (f"{TOKENS}::test_hotflip_does_what_the_paper_says",),
    ),
    Mutant(
        "an embedding that knows its place is believed",
        "attacks/embedding.py",
        "if not torch.equal(at, own):",
        "if False:",
        (f"{TOKENS}::test_what_cannot_be_listed_or_cut_is_refused",),
    ),
    Mutant(
        "decibels of power, not of amplitude",
        "core/loudness.py",
        "10 ** (level / 20)",
        "10 ** (level / 10)",
        (LOUDNESS,),
    ),
    Mutant(
        "the likelihood of a transcript has the other sign",
        "models/recogniser.py",
        "1 / (1 + loss / length",
        "1 / (1 - loss / length",
        (f"{HEARD}::test_the_likelihood_is_the_sum_over_all_paths",),
    ),
    Mutant(
        "the decoder keeps repeats",
        "models/recogniser.py",
        "    new[:, 1:] = path[:, 1:] != path[:, :-1]\n",
        "",
        (f"{HEARD}::test_the_likelihood_is_the_sum_over_all_paths",),
    ),
    Mutant(
        "a fold of draws has the same noise",
        "models/expected.py",
        "rng=rng.fold(draw))",
        "rng=rng.fold(0))",
        (f"{RANDOMISED}::test_an_expectation_is_the_mean_and_so_is_its_gradient",),
    ),
    Mutant(
        "the mean of probabilities is one of their logarithms",
        "models/expected.py",
        "outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))",
        "outputs.log_softmax(2).mean(0)",
        (f"{RANDOMISED}::test_an_expectation_is_the_mean_and_so_is_its_gradient",),
    ),
    Mutant(
        "every pass of a vote has the same draws",
        "models/majority.py",
        "rng=rng.fold(number))",
        "rng=rng.fold(0))",
        (f"{RANDOMISED}::test_the_interval_of_a_share_covers_it_as_often_as_it_says",),
    ),
    Mutant(
        "a vote of more than half is one of any",
        "models/majority.py",
        "return self.low > 0.5",
        "return self.share > 0.5",
        (f"{RANDOMISED}::test_the_interval_of_a_share_covers_it_as_often_as_it_says",),
    ),
    Mutant(
        "seeded examples share a seed",
        "models/drawn.py",
        "torch.random.manual_seed(key)",
        "torch.random.manual_seed(0 * key)",
        (f"{RANDOMISED}::test_a_careless_module_is_random_and_seeding_makes_it_a_function",),
    ),
    Mutant(
        "a surrogate's value is passed on",
        "models/surrogate.py",
        "        return value.clone()\n",
        "        return stand_in.clone()\n",
        (SURROGATE,),
    ),
    Mutant(
        "a surrogate has the gradient of the identity",
        "models/surrogate.py",
        "return _swapped(value, surrogate(x), surrogate)",
        "return _swapped(value, x + 0 * surrogate(x), surrogate)",
        (f"{SURROGATE}::test_values_are_the_function_s_and_the_derivative_is_the_surrogate_s",),
    ),
)

CERTIFICATION = (
    Mutant(
        "the box of an affine map forgets the deployed rounding",
        "certification/box.py",
        "    error = domain.error(op, box.magnitude)\n",
        "    error = 0.0\n",
        (_ORDERS, _RANDOM),
    ),
    Mutant(
        "the deployed rounding forgets the bias",
        "certification/box.py",
        "whole = whole if size is None else whole + size",
        "whole = whole",
        (f"{CERTIFICATES}::test_the_deployed_error_is_that_of_all_that_is_summed",),
    ),
    Mutant(
        "the box of an affine map forgets the rounding of its terms",
        "certification/box.py",
        "op.map.absolute()(radius + 4 * unit * (radius + centre.abs())) * (1 + unit)",
        "op.map.absolute()(radius) * (1 + unit)",
        (_BOX,),
    ),
    Mutant(
        "the box of an affine map forgets the rounding of its bias",
        "certification/box.py",
        "spread = spread + 4 * unit * size + (op.map.terms + 16) * TINY",
        "spread = spread + (op.map.terms + 16) * TINY",
        (_BOX,),
    ),
    Mutant(
        "the box of an affine map forgets underflow",
        "certification/box.py",
        "spread = spread + 4 * unit * size + (op.map.terms + 16) * TINY",
        "spread = spread + 4 * unit * size",
        (
            f"{CERTIFICATES}::test_the_box_of_an_affine_map_holds_products_below_the_range_of_doubles",
        ),
    ),
    Mutant(
        "the magnitudes of a map keep their signs",
        "core/linear.py",
        "return Dense(self.weight.abs(), self.source)",
        "return Dense(self.weight, self.source)",
        (f"{CERTIFICATES}::test_intervals_are_exact_on_linear_models", _BOX),
    ),
    Mutant(
        "a row of a convolution has the terms of one channel",
        "core/linear.py",
        "return channels * math.prod(self.weight.shape[2:])",
        "return 1",
        ("tests/unit/core/test_operator.py",),
    ),
    Mutant(
        "the box through a ball forgets its rounding",
        "certification/box.py",
        "error = op.map.absolute()(ball.centre.abs() + radius) * 4 * unit + 4 * unit * size",
        "error = 4 * unit * size",
        (_BOX, f"{CERTIFICATES}::test_the_box_of_an_l1_ball_is_its_dual_norm"),
    ),
    Mutant(
        "the box through a ball forgets the rounding of its bias",
        "certification/box.py",
        "error = op.map.absolute()(ball.centre.abs() + radius) * 4 * unit + 4 * unit * size",
        "error = op.map.absolute()(ball.centre.abs() + radius) * 4 * unit",
        (_BOX,),
    ),
    Mutant(
        "the dual of l1 is l1",
        "certification/box.py",
        "return 1.0 if math.isinf(order) else math.inf if order == 1 else order / (order - 1)",
        "return 1.0 if math.isinf(order) else order",
        (f"{CERTIFICATES}::test_the_box_of_an_l1_ball_is_its_dual_norm",),
    ),
    Mutant(
        "a ball is scaled by its factor's sign",
        "certification/box.py",
        "factor = op.map.scale.flatten()[0].abs()",
        "factor = op.map.scale.flatten()[0]",
        (f"{CERTIFICATES}::test_the_ball_behind_a_scaling_is_the_scaled_ball",),
    ),
    Mutant(
        "the radius of a scaled ball stays",
        "certification/box.py",
        "radius = ball.radius * factor * (1 + 16 * UNIT) + wide * (1 + 1e-12)",
        "radius = ball.radius * (1 + 16 * UNIT) + wide * (1 + 1e-12)",
        (f"{CERTIFICATES}::test_the_ball_behind_a_scaling_is_the_scaled_ball",),
    ),
    Mutant(
        "a scaled ball forgets its rounding",
        "certification/box.py",
        "radius = ball.radius * factor * (1 + 16 * UNIT) + wide * (1 + 1e-12)",
        "radius = ball.radius * factor",
        (f"{DEPLOYED}::test_a_network_that_rounds_away_its_input",),
    ),
    Mutant(
        "a ball is scaled alike where factors differ",
        "certification/box.py",
        "if not isinstance(op.map, Diagonal) or bool((op.map.scale != "
        "op.map.scale.flatten()[0]).any()):",
        "if not isinstance(op.map, Diagonal):",
        (f"{CERTIFICATES}::test_the_ball_behind_a_scaling_is_the_scaled_ball",),
    ),
    Mutant(
        "the box of an activation forgets its rounding",
        "certification/box.py",
        "error = op.jump + (2 * op.rounding * unit * whole + tiny if op.rounding else 0.0)",
        "error = op.jump",
        (f"{CERTIFICATES}::test_the_box_of_an_activation_holds_its_real_values",),
    ),
    Mutant(
        "the box of an activation forgets its jump",
        "certification/box.py",
        "error = op.jump + (2 * op.rounding * unit * whole + tiny if op.rounding else 0.0)",
        "error = 2 * op.rounding * unit * whole + tiny if op.rounding else 0.0",
        (f"{CERTIFICATES}::test_the_box_of_an_activation_is_wider_by_its_jump",),
    ),
    Mutant(
        "the turns of an activation are ignored",
        "certification/box.py",
        "inside = (box.high >= first) & (box.low <= last)",
        "inside = torch.zeros_like(box.low, dtype=torch.bool)",
        (f"{SOUND}::test_bounds_hold_where_an_activation_turns",),
    ),
    Mutant(
        "the box of a sum forgets its rounding",
        "certification/box.py",
        "    error = share * whole + TINY\n",
        "    error = 0.0 * whole\n",
        (f"{CERTIFICATES}::test_the_box_of_a_sum_holds_its_real_values",),
    ),
    Mutant(
        "the box of a sum forgets the deployed rounding",
        "certification/box.py",
        "        error = error + domain.rounding.gamma(len(boxes)) * whole\n",
        "        pass\n",
        (f"{CERTIFICATES}::test_the_deployed_box_of_a_sum_is_wider_by_its_rounding",),
    ),
    Mutant(
        "overflow in a box goes unnoticed",
        "certification/box.py",
        "        return replace(out, lost=lost)\n",
        "        return out\n",
        (f"{UNSEEN}::test_infinity_times_zero_is_no_zero",),
    ),
    Mutant(
        "overflow of lengths goes unnoticed",
        "certification/lipschitz.py",
        "masked_fill(~(start + reach < longest), -math.inf)",
        "masked_fill(start > math.inf, -math.inf)",
        (f"{UNSEEN}::test_what_may_overflow_is_no_certificate_of_the_deployed_network",),
    ),
    Mutant(
        "the attack's own copy is judged",
        "core/run.py",
        "lent = standing.copied()",
        "lent = standing",
        (f"{UNSEEN}::test_a_method_may_write_to_what_it_is_lent_and_deceives_nobody",),
    ),
    Mutant(
        "a value is believed although it was written to",
        "models/trace.py",
        "        return value.dtype == copy.dtype and _equal(value, copy)\n",
        "        return True\n",
        (f"{UNSEEN}::test_writes_out_of_sight_are_refused",),
    ),
    Mutant(
        "a conversion to another precision is followed",
        "models/rules/__init__.py",
        "    if dtype != call.graph.dtype:\n",
        "    if False:\n",
        (f"{UNSEEN}::test_conversions_and_empty_values_are_refused",),
    ),
    Mutant(
        "the box of a difference has the ends of a sum",
        "certification/box.py",
        "(b.low, b.high) if sign > 0 else (-b.high, -b.low)",
        "(b.low, b.high) if sign > 0 else (-b.low, -b.high)",
        (f"{GRAPHS}::test_no_point_contradicts_a_bound",),
    ),
    Mutant(
        "the box of a layer norm ignores its eps",
        "certification/box.py",
        "return x / ((x.square() + rest) / count + op.eps).sqrt()",
        "return x / ((x.square() + rest) / count).sqrt()",
        (f"{CERTIFICATES}::test_layer_normalisation_keeps_its_eps",),
    ),
    Mutant(
        "the box of a layer norm takes the others at their largest",
        "certification/box.py",
        "high = torch.where(box.high >= 0, value(box.high, small), value(box.high, large))",
        "high = torch.where(box.high >= 0, value(box.high, large), value(box.high, large))",
        (f"{CERTIFICATES}::test_the_box_of_a_layer_norm_is_reached",),
    ),
    Mutant(
        "gamma does not count terms",
        "certification/rounding.py",
        "share = terms * unit",
        "share = unit",
        (f"{CERTIFICATES}::test_gamma_counts_terms",),
    ),
    Mutant(
        "products are rounded to nearest",
        "certification/rounding.py",
        "product = max(product * factor * (1 + 4 * UNIT), SMALLEST)",
        "product = max(product * factor, SMALLEST)",
        (f"{CERTIFICATES}::test_products_and_sums_are_rounded_upwards",),
    ),
    Mutant(
        "products may vanish",
        "certification/rounding.py",
        "product = max(product * factor * (1 + 4 * UNIT), SMALLEST)",
        "product = product * factor * (1 + 4 * UNIT)",
        (f"{CERTIFICATES}::test_products_and_sums_are_rounded_upwards",),
    ),
    Mutant(
        "sums are rounded to nearest",
        "certification/rounding.py",
        "return math.fsum(terms) * (1 + 4 * UNIT)",
        "return math.fsum(terms)",
        (f"{CERTIFICATES}::test_products_and_sums_are_rounded_upwards",),
    ),
    Mutant(
        "bounds are rounded to nearest on their way out",
        "certification/rounding.py",
        "return torch.where(near > value, near.nextafter(near.new_tensor(-torch.inf)), near)",
        "return near",
        (f"{CERTIFICATES}::test_bounds_are_rounded_downwards_on_their_way_out",),
    ),
    Mutant(
        "an interval bound forgets the rounding of its products",
        "certification/interval.py",
        "room = 4 * share * ((point.abs() + reach) @ head.size.mT) + fixed",
        "room = 0 * (point.abs() + reach) @ head.size.mT + fixed",
        (_RATIONAL,),
    ),
    Mutant(
        "an interval bound forgets the rounding of its offset",
        "certification/interval.py",
        "fixed = 4 * share * head.offset_size + ",
        "fixed = ",
        (_RATIONAL,),
    ),
    Mutant(
        "an interval bound through a ball forgets its rounding",
        "certification/interval.py",
        "    other = about(flat(box.ball.centre), reach)\n",
        "    fixed = fixed * 0\n    other = about(flat(box.ball.centre), reach * 0)\n",
        (_RATIONAL,),
    ),
    Mutant(
        "a bound of folded rows forgets how far the box reaches",
        "certification/interval.py",
        'torch.einsum("bkf,bf->bk", rows.abs_(), radius) * (1 + share)',
        'torch.einsum("bkf,bf->bk", rows.abs_(), radius) * (1 - 1e-6)',
        (f"{HEAD}::test_bounds_of_a_folded_head_are_the_exact_minimum_up_to_rounding",),
    ),
    Mutant(
        "the second class of a difference is off by nothing",
        "certification/head.py",
        "return (values - room).gather(1, i) - (values + room).gather(1, j)",
        "return (values - room).gather(1, i) - values.gather(1, j)",
        (f"{HEAD}::test_rows_in_parts_are_the_same",),
    ),
    Mutant(
        "boxes pass through windows that overlap",
        "certification/head.py",
        "return bool((none * two - one.square() <= 1e-14 * none * two).all())",
        "return True",
        (f"{HEAD}::test_only_maps_that_boxes_pass_with_no_loss_are_left_out",),
    ),
    Mutant(
        "a ball at the input is met behind the first maps",
        "certification/head.py",
        "if chain and isinstance(steps[steps[chain[0]].sources[0]].op, Given):",
        "if False:",
        (f"{HEAD}::test_a_ball_at_the_input_is_met_by_the_whole_head",),
    ),
    Mutant(
        "an interval bound forgets the deployed rounding of the last layers",
        "certification/interval.py",
        " + error * (1 + 1e-9)",
        "",
        (_LINEAR,),
    ),
    Mutant(
        "bounds of real arithmetic claim the deployed network",
        "certification/interval.py",
        "        return Bounds(found, Claim.SOUND_REAL)\n",
        "        return Bounds(found, Claim.SOUND_DEPLOYED)\n",
        (
            f"{CERTIFICATES}::test_reshapes_and_concatenations_keep_their_axes",
            _ORDERS,
        ),
    ),
    Mutant(
        "outputs are not held against the box",
        "certification/interval.py",
        "        check_inside(boxes[last], outputs, domain.rounding)\n",
        "",
        (f"{CERTIFICATES}::test_operators_that_are_not_the_network_are_refused",),
    ),
    Mutant(
        "operators are not held against the network",
        "certification/known.py",
        "            reproduce(steps, points, outputs)\n",
        "            pass\n",
        (f"{CERTIFICATES}::test_operators_that_are_not_the_network_are_refused",),
    ),
    Mutant(
        "a prepared certifier serves any model",
        "certification/known.py",
        "        if digest_of(model) != self.digest:\n",
        "        if False:\n",
        (f"{CERTIFICATES}::test_a_prepared_certifier_refuses_other_weights_and_shapes",),
    ),
    Mutant(
        "a prepared certifier serves any shape",
        "certification/known.py",
        "        if tuple(batch.x.shape[1:]) != self.steps[0].shape:\n",
        "        if False:\n",
        (f"{CERTIFICATES}::test_a_prepared_certifier_refuses_other_weights_and_shapes",),
    ),
    Mutant(
        "the constants of branches are not added",
        "certification/length.py",
        "total(*(s.constant for s in sources)),  # x + x counts twice",
        "max(s.constant for s in sources),",
        (f"{CERTIFICATES}::test_graphs_are_composed_as_they_run",),
    ),
    Mutant(
        "what is joined has the largest constant",
        "certification/length.py",
        "return math.hypot(*values) * (1 + 8 * UNIT)",
        "return max(values) * (1 + 8 * UNIT)",
        (f"{CERTIFICATES}::test_graphs_are_composed_as_they_run",),
    ),
    Mutant(
        "the norm of magnitudes looks at rows alone",
        "certification/length.py",
        "up(float(rows.max()), float(columns.max()), slack, slack)",
        "up(float(rows.max()), float(rows.max()), slack, slack)",
        (f"{CERTIFICATES}::test_the_norm_of_magnitudes_looks_at_rows_and_columns",),
    ),
    Mutant(
        "the length of an affine map forgets the rounding of its input",
        "certification/length.py",
        "local = source.size.times(up(share, spread)).plus(",
        "local = Line().plus(",
        (f"{CERTIFICATES}::test_lengths_and_errors_pass_through_an_affine_map",),
    ),
    Mutant(
        "the length of an affine map forgets the rounding of its bias",
        "certification/length.py",
        "Line(0.0, up(share, whole)), domain.flush(step, terms)",
        "Line(), domain.flush(step, terms)",
        (f"{CERTIFICATES}::test_lengths_and_errors_pass_through_an_affine_map",),
    ),
    Mutant(
        "errors are not carried through an affine map",
        "certification/length.py",
        "return Length(up(source.constant, norm), size, source.error.times(norm).plus(local))",
        "return Length(up(source.constant, norm), size, local)",
        (f"{CERTIFICATES}::test_lengths_and_errors_pass_through_an_affine_map",),
    ),
    Mutant(
        "the largest slope of an activation is the last",
        "certification/length.py",
        "slope = max(abs(s) for s in op.slopes)",
        "slope = op.slopes[1]",
        (f"{CERTIFICATES}::test_the_steepest_slope_counts_also_where_it_falls",),
    ),
    Mutant(
        "lengths are rounded to nearest",
        "certification/constants.py",
        "length * (1 + (count + 8) * UNIT) * scale",
        "length * scale",
        (f"{CERTIFICATES}::test_lengths_are_rounded_upwards",),
    ),
    Mutant(
        "constants are rounded to nearest",
        "certification/constants.py",
        "product = lengths * inner * (1 + 8 * UNIT)",
        "product = lengths * inner",
        (f"{CERTIFICATES}::test_lengths_are_rounded_upwards",),
    ),
    Mutant(
        "the constant of a pair is that of its first class",
        "certification/constants.py",
        "torch.stack([_lengths(rows - row) for row in rows])",
        "torch.stack([_lengths(rows) for row in rows])",
        (f"{CERTIFICATES}::test_the_pairs_of_a_network_are_no_less_than_exact_lengths",),
    ),
    Mutant(
        "constants may vanish",
        "certification/constants.py",
        "return torch.where(small, SMALLEST, product)",
        "return product",
        (f"{CERTIFICATES}::test_a_constant_never_vanishes",),
    ),
    Mutant(
        "the closed-form radius forgets the errors",
        "certification/lipschitz.py",
        "fixed = fixed - torch.addcmul(base, slope, start[some, None])",
        "fixed = fixed + torch.addcmul(base, slope, start[some, None]) * 0",
        (f"{CERTIFICATES}::test_the_closed_form_pays_for_rounding_at_x_and_at_the_worst_point",),
    ),
    Mutant(
        "the closed-form radius forgets the errors at the worst point",
        "certification/lipschitz.py",
        "torch.stack([falling, x[0] + z[0], x[1] + z[1]])",
        "torch.stack([falling, x[0], x[1]])",
        (f"{CERTIFICATES}::test_the_closed_form_pays_for_rounding_at_x_and_at_the_worst_point",),
    ),
    Mutant(
        "the closed-form radius forgets the goal",
        "certification/lipschitz.py",
        "above = fixed - 8 * unit * fixed.abs() - (ask.goal + least)",
        "above = fixed - 8 * unit * fixed.abs() - least",
        (f"{CERTIFICATES}::test_the_radius_reaches_the_goal_and_no_further",),
    ),
    Mutant(
        "the radius of a wrong prediction is negative",
        "certification/lipschitz.py",
        "posinf=math.inf).clamp(min=0))",
        "posinf=math.inf))",
        (f"{CERTIFICATES}::test_certified_radii_are_exact_on_linear_models",),
    ),
    Mutant(
        "the radius of a wrong prediction is its distance",
        "certification/lipschitz.py",
        "posinf=math.inf).clamp(min=0))",
        "posinf=math.inf).abs())",
        (f"{CERTIFICATES}::test_certified_radii_are_exact_on_linear_models",),
    ),
    Mutant(
        "the radius of a cube is that of its ball",
        "certification/lipschitz.py",
        "return radius / math.sqrt(x[0].numel()) * (1 - 1e-12)",
        "return radius",
        (_LINEAR,),
    ),
    Mutant(
        "the reach of a cube is its side",
        "certification/lipschitz.py",
        "    if math.isinf(given.order):\n        return corner\n",
        "    if math.isinf(given.order):\n        return given.radius\n",
        (f"{CERTIFICATES}::test_a_cube_reaches_as_far_as_its_corner",),
    ),
    Mutant(
        "a row of the quantity that is no pair has the constant of one class",
        "certification/lipschitz.py",
        "steep = (asked.rows.abs() @ found.single) * (1 + 1e-12)",
        "steep = asked.rows.abs() @ found.single * 0",
        (f"{CERTIFICATES}::test_any_row_of_a_quantity_has_its_constant",),
    ),
    Mutant(
        "no example of a batch is held against the operators",
        "certification/lipschitz.py",
        "            self._check_samples(batch.x, outputs)\n",
        "",
        (f"{CERTIFICATES}::test_operators_that_are_not_the_network_are_refused",),
    ),
    Mutant(
        "a norm has no bound of its Gram matrix's rounding",
        "certification/norms.py",
        "square = largest_eigenvalue([grams]) + gram_error(a)",
        "square = largest_eigenvalue([grams])",
        (f"{NORMS}::test_the_error_terms_are_added",),
    ),
    Mutant(
        "a norm has no bound of its factorisation's rounding",
        "certification/eigenvalues.py",
        "return proved + factorisation_error(side, proved)",
        "return proved",
        (f"{NORMS}::test_the_error_terms_are_added",),
    ),
    Mutant(
        "the norm of a convolution has no bound of its blocks' rounding",
        "certification/torus.py",
        "return largest_eigenvalue(layout.blocks()) + layout.error()",
        "return largest_eigenvalue(layout.blocks())",
        (f"{NORMS}::test_the_error_terms_are_added",),
    ),
    Mutant(
        "the root of a norm is rounded to nearest",
        "certification/norms.py",
        "value = math.nextafter(math.sqrt(square), math.inf)",
        "value = math.sqrt(square)",
        (f"{CERTIFICATES}::test_roots_are_rounded_upwards",),
    ),
    Mutant(
        "a candidate that fails is believed",
        "certification/eigenvalues.py",
        "failed = failed[_exceeds(failed, proved)]",
        "break",
        (f"{NORMS}::test_a_candidate_that_is_too_low_is_not_believed",),
    ),
    Mutant(
        "the ring of a convolution is too short",
        "certification/torus.py",
        "return -(-(self.padding + self.inputs) // self.stride)",
        "return -(-self.inputs // self.stride)",
        (f"{NORMS}::test_every_layout_bounds_the_norm_and_those_without_rings_meet_it",),
    ),
    Mutant(
        "row norms are rounded to nearest",
        "certification/norms.py",
        "larger = value * (1 + 8 * (terms + 4) * UNIT)",
        "larger = value",
        (f"{NORMS}::test_the_rounding_of_positive_sums_is_added",),
    ),
    Mutant(
        "the best of several bounds has the radius of the least",
        "certification/best_of.py",
        "radius=torch.stack(radii).amax(0) if len(radii) == len(found) else None,",
        "radius=torch.stack(radii).amin(0) if len(radii) == len(found) else None,",
        (
            f"{CERTIFICATES}::test_the_best_of_several_bounds_has_their_radius_and_their_weakest_claim",
        ),
    ),
    Mutant(
        "the best of several bounds has the radius of those that have one",
        "certification/best_of.py",
        "if len(radii) == len(found) else None",
        "if radii else None",
        (
            f"{CERTIFICATES}::test_the_best_of_several_bounds_has_their_radius_and_their_weakest_claim",
        ),
    ),
    Mutant(
        "the best of several bounds claims what the strongest does",
        "certification/best_of.py",
        "Claim.weakest(bounds.claim for bounds in found)",
        "found[0].claim",
        (
            f"{CERTIFICATES}::test_the_best_of_several_bounds_has_their_radius_and_their_weakest_claim",
        ),
    ),
    Mutant(
        "bisection believes what is not certified",
        "certification/radius.py",
        "below, above = torch.where(good, middle, below), torch.where(good, above, middle)",
        "below, above = torch.where(good, middle, below), torch.where(good, above, above)",
        (CERTIFICATES, _LINEAR),
    ),
    Mutant(
        "a radius that no bisection found is the largest",
        "certification/radius.py",
        "below = first.radius.clamp(max=largest)",
        "below = torch.full_like(first.radius, largest)",
        (f"{CERTIFICATES}::test_certified_radii_are_exact_on_linear_models",),
    ),
)

SEMANTIC_METHODS = (
    Mutant(
        "turns go clockwise",
        "models/spatial.py",
        "right * sin + down * cos + middle[0]",
        "-right * sin + down * cos + middle[0]",
        (SEMANTIC,),
    ),
    Mutant(
        "shifts go the other way",
        "models/spatial.py",
        "down, right = row - dy, column - dx",
        "down, right = row + dy, column + dx",
        (SEMANTIC,),
    ),
    Mutant(
        "pixels beyond the edge are seen",
        "core/resample.py",
        "                weight = weight * seen[:, None]\n",
        "                pass\n",
        (SEMANTIC,),
    ),
    Mutant(
        "bilinear weights are swapped",
        "core/resample.py",
        "((left, 1 - right), (left + 1, right))",
        "((left, right), (left + 1, 1 - right))",
        (SEMANTIC,),
    ),
    Mutant(
        "a grid leaves out its last cell",
        "attacks/grid.py",
        "return first_or_least(model, batch, quantity, len(shares), make)",
        "return first_or_least(model, batch, quantity, len(shares) - 1, make)",
        (SEMANTIC,),
    ),
    Mutant(
        "cells do not reach the ends",
        "attacks/grid.py",
        "/ max(1, n - 1) for n",
        "/ n for n",
        (SEMANTIC,),
    ),
    Mutant(
        "one point moves a number",
        "attacks/grid.py",
        "low = torch.where(still, flat, enclosure.low.flatten(1))",
        "low = enclosure.low.flatten(1)",
        (SEMANTIC,),
    ),
    Mutant(
        "the innermost cells come first",
        "attacks/grid.py",
        "descending=True, stable=True)].to",
        "descending=False, stable=True)].to",
        (SEMANTIC,),
    ),
    Mutant(
        "what fell stays in a search",
        "attacks/grid.py",
        "        places = places[least[places] > -torch.inf]\n",
        "",
        (SEMANTIC,),
    ),
    Mutant(
        "all random points are one",
        "attacks/grid.py",
        "streams.rows(places).each(numbers)",
        "streams.rows(places).each([0] * len(numbers))",
        (SEMANTIC,),
    ),
    Mutant(
        "rounding leaves the set",
        "attacks/quantised.py",
        "    whole = contained(threat, z, x)\n    if isinstance",
        "    whole = torch.ones_like(contained(threat, z, x))\n    if isinstance",
        (QUANTISED,),
    ),
    Mutant(
        "rounding goes away from x",
        "attacks/quantised.py",
        "level = torch.where(z > x, below, above)",
        "level = torch.where(z > x, above, below)",
        (QUANTISED,),
    ),
    Mutant(
        "the search of the rounding ascends",
        "attacks/quantised.py",
        "down = _next(levels, z, -gradient)",
        "down = _next(levels, z, gradient)",
        (QUANTISED,),
    ),
    Mutant(
        "the flattest elements are moved first",
        "attacks/quantised.py",
        "order = steep.argsort(dim=1, descending=True, stable=True)",
        "order = steep.argsort(dim=1, descending=False, stable=True)",
        (QUANTISED,),
    ),
    Mutant(
        "what was not moved is rounded",
        "attacks/quantised.py",
        "torch.where(found == batch.x, found, _nearest(levels, found))",
        "_nearest(levels, found)",
        (QUANTISED,),
    ),
    Mutant(
        "one change for all ascends",
        "attacks/universal.py",
        "free.steepest(-mean, delta)",
        "free.steepest(mean, delta)",
        (SEMANTIC,),
    ),
    Mutant(
        "one change for all leaves its ball",
        "attacks/universal.py",
        "            delta = free.project(moved, torch.zeros_like(delta))\n",
        "            delta = moved\n",
        (SEMANTIC,),
    ),
    Mutant(
        "clipped elements have a say",
        "attacks/universal.py",
        "(gradient * (z == moved))",
        "gradient",
        (SEMANTIC,),
    ),
    Mutant(
        "every pass goes through the data alike",
        "attacks/universal.py",
        "drawn = streams.fold(turn)",
        "drawn = streams.fold(0)",
        (SEMANTIC,),
    ),
    Mutant(
        "noise of another size",
        "data/corruptions/noise.py",
        "0.09, 0.10)",
        "0.09, 0.12)",
        (CORRUPTIONS,),
    ),
    Mutant(
        "photons are counted one too low",
        "data/corruptions/noise.py",
        "(below < uniform)",
        "(below + mass < uniform)",
        (CORRUPTIONS,),
    ),
    Mutant(
        "salt without pepper",
        "data/corruptions/noise.py",
        "torch.where(drawn < half, 0, torch",
        "torch.where(drawn < half, 1, torch",
        (CORRUPTIONS,),
    ),
    Mutant(
        "the lens is a square",
        "data/corruptions/blur.py",
        "place[:, None] ** 2 + place[None] ** 2 <= radius**2",
        "(place[:, None].abs() <= radius) & (place[None].abs() <= radius)",
        (CORRUPTIONS,),
    ),
    Mutant(
        "glass looks down",
        "data/corruptions/blur.py",
        "(drawn * 2 * reach).floor().long() - reach",
        "(drawn * 2 * reach).floor().long()",
        (CORRUPTIONS,),
    ),
    Mutant(
        "motion is symmetric",
        "data/corruptions/filters.py",
        "row + i * turn.sin(), column + i * turn.cos()",
        "row - i * turn.sin(), column + i * turn.cos()",
        (CORRUPTIONS,),
    ),
    Mutant(
        "clouds are too smooth",
        "data/corruptions/weather.py",
        "half, amplitude / decay**2",
        "half, amplitude / decay",
        (CORRUPTIONS,),
    ),
    Mutant(
        "fog brightens",
        "data/corruptions/weather.py",
        "(most / (most + thickness))",
        "1",
        (CORRUPTIONS,),
    ),
    Mutant(
        "brightness shifts the hue",
        "data/corruptions/weather.py",
        "x * (raised / value.clamp(min=1e-12))",
        "x + (raised - value)",
        (CORRUPTIONS,),
    ),
    Mutant(
        "snow on one side only",
        "data/corruptions/weather.py",
        "kept * x + (1 - kept) * white",
        "kept * x + kept * white",
        (CORRUPTIONS,),
    ),
    Mutant(
        "contrast grows",
        "data/corruptions/digital.py",
        "(x - mean) * CONTRAST[severity - 1] + mean",
        "(x - mean) / CONTRAST[severity - 1] + mean",
        (CORRUPTIONS,),
    ),
    Mutant(
        "an affine map is turned round",
        "data/corruptions/digital.py",
        "(down * e - right * d) / area, (right * a - down * b) / area",
        "(down * e - right * b) / area, (right * a - down * d) / area",
        (CORRUPTIONS,),
    ),
    Mutant(
        "pixels are averaged off their place",
        "data/corruptions/digital.py",
        "(i + 0.5) * scale - wide / 2 + 0.5",
        "(i + 0.5) * scale - wide / 2 + 1.5",
        (CORRUPTIONS,),
    ),
    Mutant(
        "the table of JPEG is turned",
        "data/corruptions/jpeg.py",
        "steps = torch.tensor(table, dtype=x.dtype, device=x.device)",
        "steps = torch.tensor(table, dtype=x.dtype, device=x.device).T",
        (CORRUPTIONS,),
    ),
    Mutant(
        "chroma is not halved",
        "data/corruptions/jpeg.py",
        "((total + bias) / 4).floor()",
        "((total + bias) / 5).floor()",
        (CORRUPTIONS,),
    ),
    Mutant(
        "mCE is a ratio of accuracies",
        "metrics/robustness.py",
        "(1 - self.accuracy).sum(1) / (1 - self.baseline).sum(1)",
        "self.accuracy.sum(1) / self.baseline.sum(1)",
        (ROBUSTNESS,),
    ),
    Mutant(
        "the relative error forgets the baseline's",
        "metrics/robustness.py",
        "(self.baseline_clean - self.baseline).sum(1)",
        "(1 - self.baseline).sum(1)",
        (ROBUSTNESS,),
    ),
)

STRONGER = (
    Mutant(
        "momentum goes the other way",
        "attacks/apgd.py",
        "(1 - ahead) * (self.z - self.before)",
        "(ahead - 1) * (self.z - self.before)",
        (ENSEMBLE,),
    ),
    Mutant(
        "steps are never halved",
        "attacks/apgd.py",
        "torch.where(self.halved, self.length / 2, self.length)",
        "self.length",
        (ENSEMBLE,),
    ),
    Mutant(
        "a step that pays rarely stays",
        "attacks/apgd.py",
        "rare = self.falls <= PAYING * since",
        "rare = self.falls < 0",
        (ENSEMBLE,),
    ),
    Mutant(
        "a halved step does not go back to the best",
        "attacks/apgd.py",
        "        self.z = torch.where(wide, self.best, self.z)\n",
        "",
        (ENSEMBLE,),
    ),
    Mutant(
        "the gradient stays behind when a point goes back",
        "attacks/apgd.py",
        "        self.gradient = torch.where(wide, self.best_gradient, self.gradient)\n",
        "",
        (ENSEMBLE,),
    ),
    Mutant(
        "checkpoints do not come closer",
        "attacks/apgd.py",
        "max(periods[-1] - less, least)",
        "max(periods[-1] - 0, least - 1 + 1) if len(periods) < 9 else least",
        (ENSEMBLE,),
    ),
    Mutant(
        "a guide's loss is taken for the model's quantity",
        "attacks/apgd.py",
        "            value = self.quantity(outputs, batch.aim)\n        return loss",
        "            pass\n        return loss",
        (ENSEMBLE,),
    ),
    Mutant(
        "the right class is headed for",
        "attacks/targets.py",
        "wrong = outputs.scatter(1, own, -torch.inf)",
        "wrong = outputs",
        (ENSEMBLE,),
    ),
    Mutant(
        "surrogates of the margin stand for anything",
        "attacks/descent.py",
        "isinstance(surrogate, LogLikelihood | LogitRatio) and not isinstance(quantity, Margin)",
        "False",
        (ENSEMBLE,),
    ),
    Mutant(
        "the ratio divides by the second",
        "core/quantity.py",
        "last = top[:, 2] if aim.ndim == 1 else",
        "last = top[:, 1] if aim.ndim == 1 else",
        (ENSEMBLE,),
    ),
    Mutant(
        "the targeted ratio divides as the other does",
        "core/quantity.py",
        "else top[:, 2:].mean(1)",
        "else top[:, 2]",
        (ENSEMBLE,),
    ),
    Mutant(
        "twins are as sharp as the network",
        "attacks/homotopy.py",
        "[smoothed(model, value) for value in self.sharpness]",
        "[model for _ in self.sharpness]",
        (ENSEMBLE,),
    ),
    Mutant(
        "what crossed outside counts as won",
        "attacks/fab.py",
        "crossed & threat.contains(z, batch.x)",
        "crossed",
        (ENSEMBLE,),
    ),
    Mutant(
        "a step to the plane falls short",
        "attacks/fab.py",
        "MOST, BEYOND, BACK = 0.1, 1.05, 0.9",
        "MOST, BEYOND, BACK = 0.1, 0.5, 0.9",
        (ENSEMBLE,),
    ),
    Mutant(
        "the plane is met by every element alike",
        "core/hyperplane.py",
        "speed = size if order == 2 else torch.ones_like(size)",
        "speed = torch.ones_like(size)",
        (PLANE,),
    ),
    Mutant(
        "elements stuck at the box move",
        "core/hyperplane.py",
        "torch.where(way > 0, high, -low)",
        "torch.where(way > 0, -low, high)",
        (PLANE,),
    ),
    Mutant(
        "small weights go first",
        "core/hyperplane.py",
        "dim=1, descending=True",
        "dim=1, descending=False",
        (PLANE,),
    ),
    Mutant(
        "windows never change",
        "attacks/square.py",
        "better = (value < least)",
        "better = (value < least - 1e9)",
        (ENSEMBLE,),
    ),
    Mutant(
        "windows leave out the last place",
        "attacks/square.py",
        "(size - length + 1)",
        "max(1, size - length - 3)",
        (ENSEMBLE,),
    ),
    Mutant(
        "sharpness has no scale",
        "models/smoothed.py",
        "(sharpness / deviation)",
        "(sharpness / torch.ones_like(deviation))",
        (SMOOTHED,),
    ),
    Mutant(
        "the deviation is the whole batch's",
        "models/smoothed.py",
        "flat.std(1)",
        "flat.std().expand(len(flat))",
        (SMOOTHED,),
    ),
    Mutant(
        "a soft minimum is a maximum",
        "models/smoothed.py",
        "soft = sign * torch.logsumexp(sign * beta * z",
        "soft = torch.logsumexp(beta * z",
        (SMOOTHED,),
    ),
    Mutant(
        "pads count as zero",
        "models/smoothed.py",
        "value=-torch.inf",
        "value=0.0",
        (SMOOTHED,),
    ),
    Mutant(
        "amber is never red",
        "attacks/diagnosis/indicator.py",
        "return self._red if self.value >= self.red else Level.AMBER",
        "return Level.AMBER",
        (DIAGNOSIS,),
    ),
    Mutant(
        "the verdict is the mildest",
        "attacks/diagnosis/indicator.py",
        "return max((one.level",
        "return min((one.level",
        (DIAGNOSIS,),
    ),
    Mutant(
        "planted points are inside",
        "attacks/diagnosis/planted.py",
        "own > scores",
        "own < scores",
        (DIAGNOSIS,),
    ),
    Mutant(
        "any layer minds its mode",
        "attacks/diagnosis/state.py",
        'return code is None or "training" in code.co_names',
        "return True",
        (DIAGNOSIS,),
    ),
    Mutant(
        "generators are not moved between passes",
        "attacks/diagnosis/state.py",
        "torch.manual_seed(number)",
        "torch.manual_seed(0)",
        (DIAGNOSIS,),
    ),
    Mutant(
        "a mean counts what is shown",
        "audit/sections/explain/scores.py",
        "return values if bool(chosen.all()) else values[~chosen]",
        "return values",
        (f"{EXPLAIN}::test_examples_that_are_shown_do_not_count_in_the_mean",),
    ),
    Mutant(
        "a bet pays for one side alone",
        "audit/statistics.py",
        "gains.cumsum().max() >= log(2 / alpha)",
        "gains.cumsum().max() >= log(1 / alpha)",
        (MEANS,),
    ),
    Mutant(
        "a bet is placed once the value is seen",
        "audit/statistics.py",
        "np.concatenate([[0.25], spread[:-1]])",
        "spread",
        (MEANS,),
    ),
    Mutant(
        "a capital is looked at in the end alone",
        "audit/statistics.py",
        "gains.cumsum().max() >=",
        "gains.sum() >=",
        (MEANS,),
    ),
    Mutant(
        "methods that agree disagree",
        "audit/rules.py",
        "if correlation < rules.agreement_floor",
        "if correlation > rules.agreement_floor",
        (AGREEMENT,),
    ),
    Mutant(
        "a method that notices does not",
        "audit/rules.py",
        "if correlation >= rules.sanity_ceiling",
        "if correlation <= rules.sanity_ceiling",
        (AGREEMENT,),
    ),
    Mutant(
        "a method is compared with itself",
        "audit/sections/explain/agreement.py",
        "spearman(maps[one], maps[other])",
        "spearman(maps[one], maps[one])",
        (AGREEMENT,),
    ),
    Mutant(
        "the pair that agrees most is told",
        "audit/sections/explain/findings.py",
        "worst = min(apart",
        "worst = max(apart",
        (AGREEMENT,),
    ),
    Mutant(
        "the influence of a unit counts what is shown",
        "audit/sections/explain/inside.py",
        "own = drawn(influences, chosen(shard))",
        "own = influences",
        (INSIDE,),
    ),
    Mutant(
        "the means of the shards are not added up",
        "audit/sections/explain/inside.py",
        'return {"count": sum(one["count"] for one in parts), **sums}',
        'return {"count": parts[0]["count"], **sums}',
        ("tests/unit/audit/test_inside.py::test_shards_add_up",),
    ),
    Mutant(
        "each unit sees what the first does",
        "audit/sections/explain/inside.py",
        '"quantity": Units((unit,))',
        '"quantity": Units((0,))',
        (INSIDE,),
    ),
    Mutant(
        "a layer is explained by the input",
        "audit/sections/explain/inside.py",
        '"where": Slice(cut, method.where.stop)',
        '"where": method.where',
        (INSIDE,),
    ),
    Mutant(
        "what is at a token is not added up",
        "audit/sections/explain/task.py",
        "values.flatten(2).sum(2) if",
        "values.flatten(2)[:, :, 0] if",
        (INSIDE,),
    ),
    Mutant(
        "a word against the answer is underlined as one for it",
        "audit/pictures/text.py",
        '"for" if share > 0 else "against"',
        '"for" if share < 0 else "against"',
        ("tests/unit/audit/test_pictures.py",),
    ),
    Mutant(
        "red is as good as amber",
        "audit/rules.py",
        "return Ruling(Bearing.AGAINST, Verdict.TOO_FEW)\n        case Level.AMBER",
        "return Ruling(Bearing.OPEN, Verdict.WITH_CARE)\n        case Level.AMBER",
        (f"{DOUBTED}::test_red_is_no_evidence_and_amber_a_warning",),
    ),
    Mutant(
        "the verdict is of another threat",
        "audit/sections/robustness/__init__.py",
        "u.told(told[u.threat].verdict, told[u.threat].reasons)",
        "u.told(found.threats[0].verdict, found.threats[0].reasons)",
        (f"{DOUBTED}::test_each_threat_has_its_own_verdict",),
    ),
    Mutant(
        "what was broken again stands",
        "audit/sections/diagnosis/record.py",
        'reported & columns["stands"]',
        "reported",
        (f"{DOUBTED}::test_the_record_says_what_the_rows_say",),
    ),
    Mutant(
        "a second attack may win where a certificate holds",
        "audit/sections/diagnosis/__init__.py",
        'audited["lower"] > 0',
        'audited["lower"] > 1e9',
        (f"{DOUBTED}::test_a_second_attack_that_wins_where_a_certificate_holds_stops_the_audit",),
    ),
    Mutant(
        "a rival counts what had fallen before",
        "audit/sections/diagnosis/task.py",
        "(before & ~after)",
        "(~after)",
        (f"{DOUBTED}::test_what_stood_and_stands_no_more_is_told",),
    ),
    Mutant(
        "a sample is cut into shards",
        "audit/engine.py",
        "return max(1, len(self._rows(chapter)))",
        "return self.plan.shard",
        (f"{DOUBTED}::test_the_sample_is_one_task_whatever_the_shards",),
    ),
    Mutant(
        "a number is written without its verdict",
        "audit/finding.py",
        "return told if number.verdict is None else",
        "return told if number.verdict is not None else",
        (f"{DOUBTED}::test_a_number_is_written_with_its_verdict",),
    ),
    Mutant(
        "what is passed over within is not heard outside",
        "core/passed_over.py",
        "outer.update(own)",
        "pass",
        (f"{DOUBTED}::test_who_listens_outside_hears_what_is_said_within",),
    ),
    Mutant(
        "two aims are compared",
        "audit/evaluation/paired.py",
        "if bool(apart.any()):",
        "if bool(apart.all()):",
        (f"{DOUBTED}::test_two_evaluations_that_aim_elsewhere_are_not_compared",),
    ),
    Mutant(
        "the indicators see other examples than what was found on them",
        "audit/evaluation/diagnose.py",
        "found=whole.rows(some)",
        "found=whole.rows(some.flip(0))",
        (f"{DOUBTED}::test_the_indicators_are_asked_about_the_evaluations_own_points",),
    ),
)

TRACE = "tests/unit/core/test_trace.py"
TRACES = (
    Mutant(
        "a module is taken for a method, as its call takes anything",
        "core/arguments.py",
        "if isinstance(method, nn.Module):  # whose",
        "if isinstance(method, Quantity):  # whose",
        ("tests/unit/test_drivers.py",),
    ),
    Mutant(
        "a seed stays the kind of integer that it was",
        "core/arguments.py",
        "    return int(seed)",
        "    return seed",
        ("tests/unit/test_drivers.py",),
    ),
    Mutant(
        "any run is taken for one that says how to run",
        "core/drive.py",
        "rows_of_pass = check_run(run).rows(data.x.shape)",
        "rows_of_pass = run.rows(data.x.shape)",
        ("tests/unit/test_drivers.py",),
    ),
    Mutant(
        "one element without a gradient is enough",
        "attacks/unguided.py",
        "rows = (gradient == 0).flatten(1).all(1).nonzero()[:, 0]",
        "rows = (gradient == 0).flatten(1).any(1).nonzero()[:, 0]",
        ("tests/unit/attacks/test_unguided.py",),
    ),
    Mutant(
        "a zero gradient is taken for none",
        "attacks/unguided.py",
        "if len(rows) and (self.flat or not given):",
        "if len(rows):",
        ("tests/unit/attacks/test_unguided.py",),
    ),
    Mutant(
        "queries are asked where a gradient leads, not where none does",
        "attacks/unguided.py",
        "rows = (gradient == 0).flatten(1).all(1).nonzero()[:, 0]",
        "rows = (gradient != 0).flatten(1).any(1).nonzero()[:, 0]",
        ("tests/unit/attacks/test_unguided.py",),
    ),
    Mutant(
        "numbers in a tuple are not looked at",
        "core/counted.py",
        "for one in value if several else (value,):",
        "for one in () if several else (value,):",
        ("tests/unit/core/test_counted.py",),
    ),
    Mutant(
        "a target may take what it likes",
        "core/postcondition.py",
        "if isinstance(target, type) or not callable(target) or not takes(target, 2):",
        "if isinstance(target, type) or not callable(target):",
        ("tests/unit/core/test_counted.py",),
    ),
    Mutant(
        "a trace counts the passes of a repeated example once",
        "core/trace.py",
        "number = self.passes[rows] + before",
        "number = self.passes[rows] + 1",
        (TRACE,),
    ),
    Mutant(
        "a trace takes points outside the set",
        "core/trace.py",
        "value = torch.where(question.within(z), value, torch.inf)",
        "value = value",
        (TRACE,),
    ),
    Mutant(
        "a checkpoint comes one power of two late",
        "core/trace.py",
        "after = number.double().log2().ceil()",
        "after = number.double().log2().floor().add(1)",
        (TRACE,),
    ),
    Mutant(
        "the first success is the last",
        "core/trace.py",
        'self.first.scatter_reduce_(0, rows, won, "amin")',
        "self.first[rows] = won",
        (TRACE,),
    ),
    Mutant(
        "twins are told",
        "models/smoothed.py",
        "outputs = self.model(unmarked(batch))",
        "outputs = self.model(batch)",
        (TRACE,),
    ),
    Mutant(
        "a trace is read as it was written but for its end",
        "audit/evaluation/record.py",
        "seen = [(n - 1).bit_length() + 1 if n else 0 for n in passes]",
        "seen = [(n - 1).bit_length() if n else 0 for n in passes]",
        (EVALUATION,),
    ),
)
EVALUATIONS = (
    Mutant(
        "certified points are attacked",
        "audit/evaluation/known.py",
        "return self.right & ~self.fell & ~self.certified",
        "return self.right & ~self.fell",
        (EVALUATION,),
    ),
    Mutant(
        "what fell is attacked again",
        "audit/evaluation/known.py",
        "return self.right & ~self.fell & ~self.certified",
        "return self.right & ~self.certified",
        (EVALUATION,),
    ),
    Mutant(
        "no certified point is checked",
        "audit/evaluation/known.py",
        "            among &= self.certified\n",
        "            among &= ~self.right\n",
        (EVALUATION,),
    ),
    Mutant(
        "a contradiction has a slack that covers it",
        "audit/evaluation/known.py",
        "ROUNDING = 256",
        "ROUNDING = 1 << 30",
        (EVALUATION,),
    ),
    Mutant(
        "rounding excuses a claim about the deployed network",
        "audit/evaluation/known.py",
        "room = torch.where(self.deployed[rows], 0.0, slack)",
        "room = slack * 1e5",
        (EVALUATION,),
    ),
    Mutant(
        "a step is taken again",
        "audit/evaluation/known.py",
        "        self.covered(part.key)[rows] = True\n",
        "",
        (EVALUATION,),
    ),
    Mutant(
        "parts have the random numbers of the first",
        "audit/evaluation/setting.py",
        ".fold(self.place)",
        ".fold(0)",
        (EVALUATION,),
    ),
    Mutant(
        "a threat is named by what it prints",
        "audit/evaluation/setting.py",
        "if is_dataclass(value) and not isinstance(value, type):",
        "if False:",
        (EVALUATION,),
    ),
    Mutant(
        "rows are believed",
        "audit/evaluation/record.py",
        "if seal != _sealed(table, story):",
        "if False:",
        (EVALUATION,),
    ),
    Mutant(
        "adversarial inputs are believed",
        "audit/evaluation/record.py",
        "        if wrong:\n",
        "        if False:\n",
        (EVALUATION,),
    ),
    Mutant(
        "distances are read in single precision",
        "audit/evaluation/record.py",
        "else torch.float64,",
        "else torch.float32,",
        (EVALUATION,),
    ),
    Mutant(
        "a record takes any model",
        "audit/evaluation/record.py",
        "        if differ:\n",
        "        if False:\n",
        (EVALUATION,),
    ),
    Mutant(
        "every look has all of alpha",
        "audit/evaluation/stopping.py",
        "self.alpha / len(self.looks(count))",
        "self.alpha",
        (EVALUATION,),
    ),
    Mutant(
        "examples are looked at as they come",
        "audit/evaluation/worst_case.py",
        'order = shuffled(known.setting.data.positions, seed, "order")',
        "order = every",
        (EVALUATION,),
    ),
    Mutant(
        "the sample is what still stands",
        "audit/evaluation/worst_case.py",
        "~(known.fell & ~search.taken_by(dear))",
        "~known.fell",
        (EVALUATION,),
    ),
    Mutant(
        "the bound counts those that were seen to fall twice",
        "audit/evaluation/stopping.py",
        "most_marked(fell, sampled, left, rule.alpha) - fell",
        "most_marked(fell, sampled, left, rule.alpha)",
        (EVALUATION,),
    ),
    Mutant(
        "the bound is one too low",
        "audit/statistics.py",
        "return marked + bisect_left(range(1, unseen + 1), True, key=unlikely)",
        "return max(marked, marked + bisect_left(range(1, unseen + 1), True, key=unlikely) - 1)",
        (EVALUATION,),
    ),
    Mutant(
        "a sample is drawn with replacement",
        "audit/statistics.py",
        "return Fraction(few, ways) <= level",
        "return special.bdtr(marked, drawn, of / total) <= alpha",
        (EVALUATION,),
    ),
    Mutant(
        "McNemar's test is one-sided",
        "audit/statistics.py",
        "2 * float(special.bdtr",
        "float(special.bdtr",
        (EVALUATION,),
    ),
    Mutant(
        "a radius forgets what the smaller ones broke",
        "audit/evaluation/curve.py",
        "                known.carry(before)\n",
        "                known.inputs = before.inputs.clone()\n",
        (EVALUATION,),
    ),
    Mutant(
        "survivors are left alone at larger radii",
        "audit/evaluation/curve.py",
        "            search.go(replace(self.steps, certifiers=()), self.every)\n",
        "            _ = number or search.go(replace(self.steps, certifiers=()), self.every)\n",
        (EVALUATION,),
    ),
    Mutant(
        "a warm start is a cold one",
        "audit/evaluation/started.py",
        "        return self.start\n",
        "        return self.inside.sample(x, rng)\n",
        (EVALUATION,),
    ),
    Mutant(
        "passes of one radius stand for the curve",
        "audit/evaluation/curve.py",
        "return [part for search in self.searches for part in search.known.parts]",
        "return list(self.searches[-1].known.parts)",
        (EVALUATION,),
    ),
)

PERTURBATION_METHODS = (
    Mutant(
        "occlusion adds falls instead of averaging them",
        "attribution/occlusion.py",
        "return over_channels(total / cover, x)",
        "return over_channels(total, x)",
        (f"{PERTURBATION}::test_occlusion_is_its_definition",),
    ),
    Mutant(
        "occlusion takes rises for falls",
        "attribution/occlusion.py",
        "falls = clean - asked(",
        "falls = -clean + asked(",
        (f"{PERTURBATION}::test_on_a_linear_model_a_column_has_its_weight_times_its_displacement",),
    ),
    Mutant(
        "occlusion ignores its baseline",
        "attribution/occlusion.py",
        "inputs = torch.where(over_channels(hidden, x)[:, None], blank, x)",
        "inputs = torch.where(over_channels(hidden, x)[:, None], 0 * blank, x)",
        (f"{PERTURBATION}::test_on_a_linear_model_a_column_has_its_weight_times_its_displacement",),
    ),
    Mutant(
        "occlusion leaves out what a whole stride does not reach",
        "attribution/occlusion.py",
        "math.ceil((side - size) / step)",
        "math.floor((side - size) / step)",
        (f"{PERTURBATION}::test_occlusion_is_its_definition",),
    ),
    Mutant(
        "a group's fall is not shared among its elements",
        "attribution/ablation.py",
        "return (shares / size)[:, ids.flatten()]",
        "return (shares / 1)[:, ids.flatten()]",
        (f"{PERTURBATION}::test_a_group_has_one_fall_spread_over_its_elements",),
    ),
    Mutant(
        "ablation hides all but the group",
        "attribution/ablation.py",
        "hidden = ids == numbers",
        "hidden = ids != numbers",
        (f"{PERTURBATION}::test_a_group_has_one_fall_spread_over_its_elements",),
    ),
    Mutant(
        "RISE does not divide by what is visible",
        "attribution/rise.py",
        "mean = total / (self.visible * self.masks)",
        "mean = total / self.masks",
        (f"{PERTURBATION}::test_rise_is_its_equation_on_its_own_masks",),
    ),
    Mutant(
        "RISE weighs by what is hidden",
        "attribution/rise.py",
        "share = value.reshape(-1, *[1] * len(sides)) * mask",
        "share = value.reshape(-1, *[1] * len(sides)) * (1 - mask)",
        (f"{PERTURBATION}::test_rise_estimates_the_mean_while_a_column_is_visible",),
    ),
    Mutant(
        "the masks of RISE are not shifted",
        "attribution/rise.py",
        "first = (moves[:, axis] * cell).long()",
        "first = (moves[:, axis] * 0).long()",
        (
            f"{PERTURBATION}::test_the_masks_of_rise_show_a_share_and_are_shifted_linear_enlargements",
        ),
    ),
    Mutant(
        "the masks of RISE are not smooth",
        "attribution/rise.py",
        "mode=LINEAR[len(sides)], align_corners=False",
        'mode="nearest"',
        (
            f"{PERTURBATION}::test_the_masks_of_rise_show_a_share_and_are_shifted_linear_enlargements",
        ),
    ),
    Mutant(
        "a Shapley kernel of equal weights",
        "attribution/shapley.py",
        "    return (players - 1) / (size * (players - size))",
        "    return float(math.comb(players, size))",
        (f"{PERTURBATION}::test_shapley_values_of_few_players_are_exact",),
    ),
    Mutant(
        "a Shapley kernel that forgets how many coalitions a size has",
        "attribution/shapley.py",
        "weights += [each / count] * (sides * count)",
        "weights += [each] * (sides * count)",
        (f"{PERTURBATION}::test_shapley_values_of_few_players_are_exact",),
    ),
    Mutant(
        "Shapley values do not sum to the change",
        "attribution/shapley.py",
        "return free - level * excess / level.sum(1, keepdim=True)",
        "return free",
        (f"{PERTURBATION}::test_many_players_are_estimated_without_bias_and_always_complete",),
    ),
    Mutant(
        "drawn coalitions weigh twice",
        "attribution/shapley.py",
        "share = (left.sum() / (2 * pairs))",
        "share = (left.sum() / pairs)",
        (f"{PERTURBATION}::test_coalitions_come_in_pairs_and_weigh_what_their_sizes_weigh",),
    ),
    Mutant(
        "coalitions are drawn of equal sizes",
        "attribution/shapley.py",
        "edges = (left.cumsum(0) / left.sum())[:-1]",
        "edges = (torch.ones_like(left).cumsum(0) / len(left))[:-1]",
        (f"{PERTURBATION}::test_coalitions_come_in_pairs_and_weigh_what_their_sizes_weigh",),
    ),
    Mutant(
        "the least relevant first is the most relevant first",
        "metrics/ordering.py",
        "descending=self is not Order.LERF",
        "descending=True",
        (
            f"{SCORES}::test_the_least_relevant_first_is_the_reverse_and_a_random_order_lies_between",
        ),
    ),
    Mutant(
        "imputed corners weigh as much as sides",
        "metrics/road.py",
        "BESIDE, ACROSS = 1 / 6, 1 / 12",
        "BESIDE, ACROSS = 1 / 8, 1 / 8",
        (f"{SCORES}::test_imputation_solves_its_equations",),
    ),
    Mutant(
        "imputation takes what is removed for black",
        "metrics/road.py",
        "return torch.where(gone, degree * u - _neighbours(u), 0.0)",
        "return torch.where(gone, u, 0.0)",
        (f"{SCORES}::test_imputation_solves_its_equations",),
    ),
    Mutant(
        "imputation counts neighbours beyond the edge",
        "metrics/road.py",
        "degree * u - _neighbours(u)",
        "u - _neighbours(u)",
        (f"{SCORES}::test_imputation_solves_its_equations",),
    ),
    Mutant(
        "ROAD adds noise everywhere",
        "metrics/road.py",
        "return torch.where(touched, filled + self.noise * drawn.reshape(filled.shape), filled)",
        "return filled + self.noise * drawn.reshape(filled.shape)",
        (f"{SCORES}::test_the_noise_of_road_is_on_what_was_imputed_alone",),
    ),
    Mutant(
        "infidelity of the opposite change",
        "metrics/infidelity.py",
        "x - change))",
        "x + change))",
        (f"{SCORES}::test_infidelity_is_its_definition",),
    ),
    Mutant(
        "infidelity takes shares for slopes",
        "metrics/infidelity.py",
        "slopes = _per_unit(values, x - blank) if self.shares else values",
        "slopes = values",
        (f"{SCORES}::test_the_weights_of_a_linear_model_predict_everything",),
    ),
    Mutant(
        "infidelity without the square",
        "metrics/infidelity.py",
        "return mean_of((u - v).square())",
        "return mean_of((u - v).abs())",
        (f"{SCORES}::test_the_weights_of_a_linear_model_predict_everything",),
    ),
    Mutant(
        "sensitivity-n of covariances",
        "metrics/sensitivity_n.py",
        "mean_of(left * right) / length.clamp(min=1e-300)",
        "mean_of(left * right)",
        (f"{SCORES}::test_sensitivity_n_is_a_correlation_over_subsets",),
    ),
    Mutant(
        "sensitivity-n ignores its baseline",
        "metrics/sensitivity_n.py",
        "torch.where(over_input(taken, x), blank, x)",
        "torch.where(over_input(taken, x), 0 * blank, x)",
        (f"{SCORES}::test_sensitivity_n_is_a_correlation_over_subsets",),
    ),
    Mutant(
        "max-sensitivity is not relative",
        "metrics/stability.py",
        "most = torch.maximum(most, length(other - values) / size)",
        "most = torch.maximum(most, length(other - values))",
        (f"{SCORES}::test_the_gradient_of_squares_moves_twice_as_fast_as_its_input",),
    ),
    Mutant(
        "the Lipschitz estimate ignores how far the input moved",
        "metrics/stability.py",
        "length(other - values) / away.clamp(min=1e-300)",
        "length(other - values)",
        (f"{SCORES}::test_the_gradient_of_squares_moves_twice_as_fast_as_its_input",),
    ),
    Mutant(
        "every draw of a stability is the same",
        "metrics/stability.py",
        "threat.sample(batch.x, rng.fold(draw))",
        "threat.sample(batch.x, rng.fold(0))",
        (f"{SCORES}::test_the_gradient_of_squares_moves_twice_as_fast_as_its_input",),
    ),
    Mutant(
        "relative stability counts draws that change the class",
        "metrics/relative.py",
        "kept = torch.where(same, torch.maximum(kept, found), kept)",
        "kept = torch.maximum(kept, found)",
        (f"{SCORES}::test_draws_that_change_the_class_are_left_out_if_others_are_left",),
    ),
    Mutant(
        "relative stability of absolute changes",
        "metrics/relative.py",
        "return (was - now) / torch.maximum(size, floor)",
        "return was - now",
        (f"{SCORES}::test_the_gradient_of_squares_moves_twice_as_fast_as_its_input",),
    ),
    Mutant(
        "only the top layer is drawn anew",
        "models/redrawn.py",
        "chosen[:1] if only else chosen",
        "chosen[-1:]",
        (f"{SCORES}::test_layers_are_drawn_from_the_top_with_the_spread_they_have",),
    ),
    Mutant(
        "weights are drawn with deviation 1",
        "models/redrawn.py",
        "old.mean() + old.std(correction=0) * drawn",
        "old.mean() + drawn",
        (f"{SCORES}::test_layers_are_drawn_from_the_top_with_the_spread_they_have",),
    ),
    Mutant(
        "the model itself is drawn anew",
        "models/redrawn.py",
        "module = copy.deepcopy(network.module)",
        "module = network.module",
        (f"{SCORES}::test_layers_are_drawn_from_the_top_with_the_spread_they_have",),
    ),
    Mutant(
        "another class may be the same",
        "metrics/sanity.py",
        "(batch.aim + 1 + (drawn * (classes - 1)).long())",
        "(batch.aim + (drawn * (classes - 1)).long())",
        (f"{SCORES}::test_another_class_is_any_other",),
    ),
    Mutant(
        "sparseness of signed values",
        "metrics/complexity.py",
        "return by_feature(values).abs().double()",
        "return by_feature(values).double()",
        (f"{SCORES}::test_complexities_by_hand",),
    ),
    Mutant(
        "a Gini index off by one place",
        "metrics/complexity.py",
        "((2 * place - count - 1) * ordered)",
        "((2 * place - count) * ordered)",
        (f"{SCORES}::test_complexities_by_hand",),
    ),
    Mutant(
        "ties at the edge of the top are all taken",
        "metrics/localisation.py",
        "room = (count - above.sum(1)) / tied.sum(1)",
        "room = (count - above.sum(1)).clamp(max=1)",
        (f"{SCORES}::test_the_top_features_in_a_region_by_hand",),
    ),
    Mutant(
        "the pointing game looks at magnitudes",
        "metrics/localisation.py",
        "return top_inside(by_feature(values), inside, torch.ones_like(inside.sum(1)))",
        "return top_inside(by_feature(values).abs(), inside, torch.ones_like(inside.sum(1)))",
        (f"{SCORES}::test_the_top_features_in_a_region_by_hand",),
    ),
    Mutant(
        "a network said not to read a column does",
        "testing/known.py",
        "torch.cat([outer, share, -share])",
        "torch.cat([outer, share, share])",
        (f"{AXIOMS}::test_the_networks_are_as_they_say",),
    ),
    Mutant(
        "sensitivity is always held",
        "testing/axiomatic.py",
        "held &= bool(",
        "held |= bool(",
        (f"{AXIOMS}::test_what_the_methods_hold",),
    ),
    Mutant(
        "completeness against the opposite change",
        "testing/axiomatic.py",
        "change = asked_of(method, model, part) - asked_of(method, model, part.at(start))",
        "change = asked_of(method, model, part.at(start)) - asked_of(method, model, part)",
        (f"{AXIOMS}::test_what_the_methods_hold",),
    ),
    Mutant(
        "an axiom is held whatever comes",
        "testing/copies.py",
        "ROOM = 1e-4",
        "ROOM = 10.0",
        (f"{AXIOMS}::test_what_is_wrong_is_found",),
    ),
)

PROPAGATION = (
    Mutant(
        "DeepLIFT's displacement is turned round",
        "attribution/deeplift.py",
        "g[:count] * (z[count:] - z[:count])",
        "g[:count] * (z[:count] - z[count:])",
        (BACKWARDS,),
    ),
    Mutant(
        "DeepLIFT takes the derivative at the example",
        "attribution/deeplift.py",
        "found = [g[:count] *",
        "found = [g[count:] *",
        (BACKWARDS,),
    ),
    Mutant(
        "DeepLIFT's baseline is ignored",
        "attribution/deeplift.py",
        "returned(self.baseline, came, x.shape, x, dtype=x.dtype), x]",
        "0 * x, x]",
        (BACKWARDS,),
    ),
    Mutant(
        "DeepLIFT is credited with the example, not the difference",
        "attribution/deeplift.py",
        "(z[count:] - z[:count])",
        "z[count:]",
        (BACKWARDS,),
    ),
    Mutant(
        "a broken sum of DeepLIFT passes",
        "attribution/deeplift.py",
        "if bool(broken.any()):",
        "if False and bool(broken.any()):",
        (BACKWARDS,),
    ),
    Mutant(
        "DeepLIFT's promise forgets the baseline",
        "attribution/deeplift.py",
        "{INPUT: self.baseline(model, batch)}, {INPUT: batch.x}",
        "{INPUT: zeros(model, batch)}, {INPUT: batch.x}",
        (BACKWARDS,),
    ),
    Mutant(
        "guided backpropagation forgets which units were active",
        "attribution/backpropagation.py",
        "return gradient.clamp(min=0) * active",
        "return gradient.clamp(min=0)",
        (BACKWARDS,),
    ),
    Mutant(
        "guided backpropagation keeps negative gradients",
        "attribution/backpropagation.py",
        "return gradient.clamp(min=0) * active",
        "return gradient * active",
        (BACKWARDS,),
    ),
    Mutant(
        "deconvnet keeps negative gradients",
        "attribution/backpropagation.py",
        "    return gradient.clamp(min=0)\n",
        "    return gradient\n",
        (BACKWARDS,),
    ),
    Mutant(
        "deconvnet gates by activity",
        "attribution/backpropagation.py",
        "    return gradient.clamp(min=0)\n",
        "    return gradient.clamp(min=0) * active\n",
        (BACKWARDS,),
    ),
    Mutant(
        "a network without ReLU passes",
        "attribution/backpropagation.py",
        "if not mode.count:",
        "if not mode:",
        (BACKWARDS,),
    ),
    Mutant(
        "the rule stays for who differentiates an explanation",
        "attribution/backpropagation.py",
        "        mode.active = False",
        "        mode.active = True",
        (BACKWARDS,),
    ),
    Mutant(
        "the quantity's own ReLUs are rewired",
        "attribution/backpropagation.py",
        "values = Influence(Point(), self.quantity, self.where)(_Model(model, mode), batch)",
        "with mode:\n            values = Influence(Point(), self.quantity, self.where)(model, batch)",
        (BACKWARDS,),
    ),
    Mutant(
        "a ReLU cut off from above is open at the top",
        "models/rectifiers.py",
        "(z > 0) & (z < ctx.top)",
        "z > 0",
        (BACKWARDS,),
    ),
    Mutant(
        "in-place ReLUs are not written back",
        "models/rectifiers.py",
        "return z.copy_(self._applied(z.clone(), top))",
        "return self._applied(z.clone(), top)",
        (BACKWARDS,),
    ),
    Mutant(
        "a threshold above zero is a ReLU",
        "models/rectifiers.py",
        'bound.get("threshold") == bound.get("value") == 0',
        'bound.get("value") == 0',
        (BACKWARDS,),
    ),
    Mutant(
        "Grad-CAM sums gradients over places",
        "attribution/gradcam.py",
        "gradient.mean(axes, keepdim=True)",
        "gradient.sum(axes, keepdim=True)",
        (BACKWARDS,),
    ),
    Mutant(
        "Grad-CAM weighs place by place",
        "attribution/gradcam.py",
        "gradient.mean(axes, keepdim=True)",
        "gradient",
        (BACKWARDS,),
    ),
    Mutant(
        "Grad-CAM keeps what speaks against",
        "attribution/gradcam.py",
        "found if self.signed else found.relu()",
        "found",
        (BACKWARDS,),
    ),
    Mutant(
        "Grad-CAM aligns corners",
        "attribution/gradcam.py",
        "align_corners=False",
        "align_corners=True",
        (BACKWARDS,),
    ),
    Mutant(
        "guided Grad-CAM forgets the map",
        "attribution/gradcam.py",
        "return fine * GradCam(self.layer, self.quantity)(model, batch)",
        "return fine",
        (BACKWARDS,),
    ),
    Mutant(
        "the first convolution is taken for the last",
        "models/convolutions.py",
        "        self.output = out\n",
        "        self.output = out if self.output is None else self.output\n",
        (BACKWARDS,),
    ),
    Mutant(
        "a convolution with one place is the last",
        "models/convolutions.py",
        "out[0, 0].numel() < 2",
        "out[0, 0].numel() < 1",
        (BACKWARDS,),
    ),
    Mutant(
        "an in-place activation overwrites the convolution",
        "models/convolutions.py",
        "return out.clone()  #",
        "return out  #",
        (BACKWARDS,),
    ),
    Mutant(
        "the stabiliser has one sign",
        "attribution/shares.py",
        "torch.where(z < 0, z - epsilon, z + epsilon)",
        "z + epsilon",
        (RELEVANCE,),
    ),
    Mutant(
        "the signed parts of the input change places",
        "attribution/shares.py",
        "plus, minus = up(x), down(x)",
        "plus, minus = down(x), up(x)",
        (RELEVANCE,),
    ),
    Mutant(
        "negative inputs get nothing",
        "attribution/shares.py",
        "return plus * one.back(share) + minus * two.back(share)",
        "return plus * one.back(share)",
        (RELEVANCE,),
    ),
    Mutant(
        "biases have no part in the denominator",
        "attribution/shares.py",
        "one.value + two.value + bias_of(op, acts[0])",
        "one.value + two.value",
        (RELEVANCE,),
    ),
    Mutant(
        "the bias keeps both its signs",
        "attribution/shares.py",
        "bias_of(op, acts[0])",
        "bias_of(op)",
        (RELEVANCE,),
    ),
    Mutant(
        "shares by weights divide by the value at the input",
        "attribution/shares.py",
        "Through(map, torch.ones_like(x))",
        "Through(map, x)",
        (RELEVANCE,),
    ),
    Mutant(
        "the epsilon rule forgets the bias",
        "attribution/relevance.py",
        "per(relevance, passed.value + bias_of(op), self.epsilon)",
        "per(relevance, passed.value, self.epsilon)",
        (RELEVANCE,),
    ),
    Mutant(
        "the epsilon rule forgets the input",
        "attribution/relevance.py",
        "return x * passed.back(",
        "return passed.back(",
        (RELEVANCE,),
    ),
    Mutant(
        "beta adds",
        "attribution/relevance.py",
        "self.alpha * plus - self.beta * minus",
        "self.alpha * plus + self.beta * minus",
        (RELEVANCE,),
    ),
    Mutant(
        "z+ takes negative parts",
        "attribution/relevance.py",
        "        return by_parts(op, x, (up, down), relevance, self.epsilon)\n",
        "        return by_parts(op, x, (down, up), relevance, self.epsilon)\n",
        (RELEVANCE,),
    ),
    Mutant(
        "gamma counts twice",
        "attribution/relevance.py",
        "value + self.gamma * part(value)",
        "value + 2 * self.gamma * part(value)",
        (RELEVANCE,),
    ),
    Mutant(
        "gamma treats negative outputs like positive ones",
        "attribution/relevance.py",
        "by_parts(op, x, (downs, ups), minus, self.epsilon)",
        "by_parts(op, x, (ups, downs), minus, self.epsilon)",
        (RELEVANCE,),
    ),
    Mutant(
        "w² is |w|",
        "attribution/relevance.py",
        "weighted(op.map, torch.square)",
        "weighted(op.map, torch.abs)",
        (RELEVANCE,),
    ),
    Mutant(
        "flat looks at the signs of weights",
        "attribution/relevance.py",
        "weighted(op.map, torch.ones_like)",
        "weighted(op.map, torch.sign)",
        (RELEVANCE,),
    ),
    Mutant(
        "the ends of the box change places",
        "attribution/relevance.py",
        "low = Through(weighted(op.map, up), torch.full_like(x, self.low))",
        "low = Through(weighted(op.map, down), torch.full_like(x, self.low))",
        (RELEVANCE,),
    ),
    Mutant(
        "the upper end of the box is not taken off",
        "attribution/relevance.py",
        " - self.high * high.back(share)",
        "",
        (RELEVANCE,),
    ),
    Mutant(
        "inputs beyond the box pass",
        "attribution/relevance.py",
        "if least < self.low or most > self.high:",
        "if least < self.low:",
        (RELEVANCE,),
    ),
    Mutant(
        "relevance begins with the slope alone",
        "attribution/lrp.py",
        "relevance = outputs * slope",
        "relevance = 0 * outputs + slope",
        (RELEVANCE,),
    ),
    Mutant(
        "any quantity is shared out",
        "attribution/lrp.py",
        "if bool((gap.abs() > 1e-5",
        "if bool((gap.abs() > 1e+5",
        (RELEVANCE,),
    ),
    Mutant(
        "branches overwrite each other",
        "attribution/propagation.py",
        "owed[source] = share if before is None else before + share",
        "owed[source] = share",
        (RELEVANCE,),
    ),
    Mutant(
        "what a sum takes away adds",
        "attribution/propagation.py",
        "[sign * x * share for sign, x in",
        "[x * share for sign, x in",
        (RELEVANCE,),
    ),
    Mutant(
        "a sum has no stabiliser",
        "attribution/propagation.py",
        "share = per(whole, value, composite.stabiliser)",
        "share = per(whole, value, 0.0)",
        (RELEVANCE,),
    ),
    Mutant(
        "pools have no stabiliser",
        "attribution/propagation.py",
        "rule: Rule = Epsilon(composite.stabiliser)",
        "rule: Rule = Epsilon(0.0)",
        (RELEVANCE,),
    ),
    Mutant(
        "dense layers take the rule of convolutions",
        "attribution/propagation.py",
        "kind = composite.dense if isinstance(op.map, Dense) else composite.convolution",
        "kind = composite.convolution",
        (RELEVANCE,),
    ),
    Mutant(
        "every layer is the first",
        "attribution/propagation.py",
        "if layer and given:",
        "if layer:",
        (RELEVANCE,),
    ),
    Mutant(
        "a normalisation hides the first layer",
        "attribution/propagation.py",
        "moved = isinstance(step.op, Affine | Reshape | Concat | Add | Given | Fixed)",
        "moved = isinstance(step.op, Reshape | Concat | Add | Given | Fixed)",
        (RELEVANCE,),
    ),
    Mutant(
        "what makes something of nothing passes",
        "attribution/propagation.py",
        "if not made or not bool(torch.stack(made).any()):",
        "if made:",
        (RELEVANCE,),
    ),
    Mutant(
        "a folded bias is not scaled",
        "attribution/folding.py",
        "before.bias * after.map.scale",
        "before.bias",
        (RELEVANCE,),
    ),
    Mutant(
        "a bias in front is not carried through",
        "attribution/folding.py",
        "bias = after.map(bias.to(map.device).expand(1, *map.source))[0]",
        "bias = None",
        (RELEVANCE,),
    ),
    Mutant(
        "what is read twice is folded",
        "attribution/folding.py",
        "alone = len(sources) == 1 and readers[step.sources[0]] == 1",
        "alone = len(sources) == 1",
        (RELEVANCE,),
    ),
    Mutant(
        "factors are laid along the wrong groups",
        "attribution/folding.py",
        "factors = each.chunk(groups)",
        "factors = each.chunk(groups)[::-1]",
        (RELEVANCE,),
    ),
)

EXCHANGED = (
    Mutant(
        "beta is left out of a Gemm",
        "models/onnx/layers.py",
        "c = c.flatten().expand(len(w)) if beta == 1 else c.flatten().expand(len(w)) * beta",
        "c = c.flatten().expand(len(w))",
        (ONNX,),
    ),
    Mutant(
        "SAME_LOWER pads as SAME_UPPER does",
        "models/onnx/windows.py",
        'return (less, more) if mode == b"SAME_UPPER" else (more, less)',
        "return (less, more)",
        (ONNX,),
    ),
    Mutant(
        "padding counts in an average that leaves it out",
        "models/onnx/windows.py",
        "scale = [1 / share]",
        "scale = [share / share]",
        (ONNX,),
    ),
    Mutant(
        "examples of a free batch are mixed",
        "models/onnx/value.py",
        "            if self.free:\n",
        "            if not self.free:\n",
        (ONNX,),
    ),
    Mutant(
        "a condition is turned round",
        "data/vnnlib.py",
        'return [(_Atom(difference if sign[0] == "<" else back, len(sign) == 1),)]',
        'return [(_Atom(difference if sign[0] == ">" else back, len(sign) == 1),)]',
        (VNNLIB,),
    ),
    Mutant(
        "the looser of two bounds counts",
        "data/vnnlib.py",
        "high[number] = min(high.get(number, upper), upper)",
        "high[number] = max(high.get(number, upper), upper)",
        (VNNLIB,),
    ),
    Mutant(
        "a number per example is no column",
        "core/linear.py",
        "return values[..., None].flatten(axis)",
        "return values.flatten(axis)",
        (BOUNDS_ON_GRAPHS,),
    ),
    Mutant(
        "a strict bound of an input loses its strictness",
        "data/vnnlib.py",
        "lower = (end, atom.strict)",
        "lower = (end, False)",
        (VNNLIB, PROPERTIES),
    ),
    Mutant(
        "one condition of a conjunction is enough",
        "audit/verification/conditions.py",
        "each = [outputs[:, list(group)].amax(1) for group in self.groups]",
        "each = [outputs[:, list(group)].amin(1) for group in self.groups]",
        (PROPERTIES,),
    ),
    Mutant(
        "a form forgets how far it is from the chord",
        "certification/forms.py",
        "sides = flat(half).masked_fill(~loose, 0.0)",
        "sides = 0.5 * flat(half).masked_fill(~loose, 0.0)",
        (HALVING,),
    ),
    Mutant(
        "a form keeps the slope out of what is not followed",
        "certification/forms.py",
        "rest = form.rest * slope.abs() + room",
        "rest = form.rest * 0.0 + room",
        (HALVING,),
    ),
    Mutant(
        "the shares of two branches do not meet",
        "certification/forms.py",
        "            op(*(one.shares for one in wide)),",
        "            op(*(one.shares.abs() for one in wide)),",
        (HALVING,),
    ),
    Mutant(
        "parts that are proved are forgotten",
        "certification/halving.py",
        'self.done = self.done.scatter_reduce(0, parts.owner, shut, "amin")',
        'self.done = self.done.scatter_reduce(0, parts.owner, shut * 0 + math.inf, "amin")',
        (HALVING,),
    ),
    Mutant(
        "a box is taken to be outside of the ball too soon",
        "certification/halving.py",
        "return far * (1 - 1e-9) > self.given.radius[parts.owner]",
        "return far > 0.5 * self.given.radius[parts.owner]",
        (HALVING,),
    ),
    Mutant(
        "one column too few in a Gram matrix made by its map",
        "certification/norms.py",
        "return largest_eigenvalue([(gram + gram.mT)[None] / 2]) + error",
        "return largest_eigenvalue([(gram + gram.mT)[None, 1:, 1:] / 2]) + error",
        (NORMS,),
    ),
    Mutant(
        "a side is halved for its steepness",
        "certification/sides.py",
        "own = own / own.sum(1, keepdim=True).clamp(min=1e-300)",
        "own = own * 0 + 1.0",
        (HALVING,),
    ),
    Mutant(
        "no side ever waits",
        "certification/sides.py",
        "return torch.where(late, -1.0, score).argmax(1)",
        "return score.argmax(1)",
        (HALVING,),
    ),
    Mutant(
        "a half of a box is lost",
        "certification/halving.py",
        "lower = low.scatter(1, side, cut)[inner]",
        "lower = low.scatter(1, side, high.gather(1, side))[inner]",
        (HALVING, PROPERTIES),
    ),
    Mutant(
        "boxes are rounded inwards",
        "audit/verification/conditions.py",
        "return near if Fraction(near) >= value else math.nextafter(near, math.inf)",
        "return near if Fraction(near) <= value else math.nextafter(near, -math.inf)",
        (PROPERTIES,),
    ),
    Mutant(
        "the checker lets branches multiply",
        "certification/checker.py",
        "return math.fsum(before) * (1 + 4 * UNIT)",
        "return math.prod(before) * (1 + 4 * UNIT)",
        (FILES,),
    ),
    Mutant(
        "the checker takes the larger of what is joined",
        "certification/checker.py",
        "return math.hypot(*before) * (1 + 8 * UNIT)",
        "return max(before) * (1 + 8 * UNIT)",
        (FILES,),
    ),
    Mutant(
        "the checker takes a steep slope with its sign",
        "certification/checker.py",
        'abs(step["ends"][0]) * leaky',
        'step["ends"][0] * leaky',
        (FILES,),
    ),
    Mutant(
        "the checker lets a bias differ by example",
        "certification/checker.py",
        'np.broadcast_shapes(sizes.get("bias", ()), tuple(shape)) == tuple(shape)',
        "True",
        (FILES,),
    ),
    Mutant(
        "the torus of the checker is too small for the padding",
        "certification/checker.py",
        "periods = [-(-(p + n) // s) for p, n, s in ends]",
        "periods = [-(-n // s) for p, n, s in ends]",
        (FILES,),
    ),
    Mutant(
        "the checker leaves no room for rounding",
        "certification/checker.py",
        "return 8 * (side + 4) * side * UNIT + 1.01 * error / square",
        "return 0.0",
        (FILES,),
    ),
    Mutant(
        "the checker takes pairs as they are claimed",
        "certification/checker.py",
        '(arrays["pairs"] >= pairs) & (arrays["pairs"] < 1e300)',
        'arrays["pairs"] < 1e300',
        (FILES,),
    ),
    Mutant(
        "an exported radius leaves the errors out",
        "certification/export.py",
        'margin = top - logits + get("own")[y] - room * (1 + 1e-5)',
        'margin = top - logits + get("own")[y] + 0 * room',
        (EXPORT,),
    ),
    Mutant(
        "an exported constant is that of the other class",
        "certification/export.py",
        'rows("steep")), 1 - 1e-5)',
        'rows("slope")), 1 - 1e-5)',
        (EXPORT,),
    ),
)

LINEAR = (
    Mutant(
        "the upper line serves positive coefficients",
        "certification/backward.py",
        "return up * pair.below + down * pair.above",
        "return up * pair.above + down * pair.below",
        (f"{LINEAR_BOUNDS}::test_crown_is_what_the_paper_says",),
    ),
    Mutant(
        "offsets of the lower line are left out",
        "certification/backward.py",
        "flat(up * pair.under + down * pair.over, 2)",
        "flat(down * pair.over, 2)",
        (BOUNDS_ON_GRAPHS,),
    ),
    Mutant(
        "a bias is carried back twice",
        "certification/backward.py",
        "self.total = self.total + flat(value * op.bias, 2).sum(2)",
        "self.total = self.total + 2 * flat(value * op.bias, 2).sum(2)",
        (f"{LINEAR_BOUNDS}::test_crown_is_what_the_paper_says",),
    ),
    Mutant(
        "a second use of a value is forgotten",
        "certification/backward.py",
        "self.pending[source] = whole = known + value",
        "self.pending[source] = whole = value",
        (f"{LINEAR_BOUNDS}::test_a_set_of_one_point_gives_the_value_there",),
    ),
    Mutant(
        "differences of branches are sums",
        "certification/backward.py",
        "self.give(source, value if sign > 0 else -value)",
        "self.give(source, value)",
        (BOUNDS_ON_GRAPHS,),
    ),
    Mutant(
        "the larger of a pair falls with the other",
        "certification/backward.py",
        "a, b = least + apart, most - apart",
        "a, b = least + apart, most + apart",
        (f"{LINEAR_BOUNDS}::test_bounds_are_exact_where_the_network_is_linear_on_the_set",),
    ),
    Mutant(
        "rounding is not paid for",
        "certification/backward.py",
        "bound = self.known.region.least(w) + self.total - self.lost * (1 + 1e-9)",
        "bound = self.known.region.least(w) + self.total",
        (f"{LINEAR_BOUNDS}::test_a_deployed_bound_is_below_every_computed_value",),
    ),
    Mutant(
        "the dual of an l2 ball costs half",
        "certification/concretise.py",
        "cost, whole = price * radius.square() / 2,",
        "cost, whole = price * radius.square() / 4,",
        (f"{LINEAR_BOUNDS}::test_ball_and_box_are_used_together",),
    ),
    Mutant(
        "elements move against the box",
        "certification/concretise.py",
        "reach = torch.where(rows > 0, self.centre - self.low, self.high - self.centre)",
        "reach = torch.where(rows > 0, self.high - self.centre, self.centre - self.low)",
        (f"{LINEAR_BOUNDS}::test_ball_and_box_are_used_together",),
    ),
    Mutant(
        "an unstable argument's upper bound has the lower one's sign",
        "certification/relaxing.py",
        'high[some] = high[some].scatter_reduce(1, picked, -above, "amin")',
        'high[some] = high[some].scatter_reduce(1, picked, above, "amin")',
        (f"{LINEAR_BOUNDS}::test_crown_is_what_the_paper_says",),
    ),
    Mutant(
        "gradients: a slope of ReLU is taken for its end alone",
        "certification/lines.py",
        "    pairs = [outer_slopes(op, low, high), *_inner(op, low, high)]",
        "    pairs = [(outer_slopes(op, low, high)[0],) * 2]",
        (f"{LINEAR_BOUNDS}::test_the_local_lipschitz_bound_is_at_least_the_papers",),
    ),
    Mutant(
        "gradients that rise lose nothing",
        "certification/jacobian.py",
        "fall, rise = (-low).clamp(min=0), high.clamp(min=0)",
        "fall, rise = (-low).clamp(min=0), 0 * high.clamp(min=0)",
        (f"{LINEAR_BOUNDS}::test_the_local_lipschitz_bound_is_at_least_the_papers",),
    ),
    Mutant(
        "a grid says nothing of what lies between",
        "certification/lines.py",
        "    dipped = torch.minimum(left + down * meet, right - up * (width - meet))",
        "    dipped = torch.minimum(left, right)",
        (BOUNDS_ON_GRAPHS,),
    ),
    Mutant(
        "multipliers have the wrong sign",
        "certification/alpha.py",
        "part = price * self.signs[place][:, None]",
        "part = price * -self.signs[place][:, None]",
        (f"{LINEAR_BOUNDS}::test_parts_are_bounded_by_any_multipliers_and_cover_the_set",),
    ),
    Mutant(
        "multipliers may be negative",
        "certification/alpha.py",
        "moved.clamp(min=0.0)",
        "moved",
        (f"{LINEAR_BOUNDS}::test_parts_are_bounded_by_any_multipliers_and_cover_the_set",),
    ),
    Mutant(
        "both halves of a division are the same",
        "certification/tree.py",
        "side = torch.where(first, 1, -1).to(torch.int8)",
        "side = torch.ones_like(first, dtype=torch.int8)",
        (f"{LINEAR_BOUNDS}::test_parts_are_bounded_by_any_multipliers_and_cover_the_set",),
    ),
    Mutant(
        "what a rung refuted climbs on",
        "certification/climb.py",
        "return ((self.lower <= goal) & (self.value > goal)).nonzero()[:, 0]",
        "return (self.lower <= goal).nonzero()[:, 0]",
        (f"{LADDER}::test_only_what_is_open_climbs",),
    ),
    Mutant(
        "a radius that failed is taken for proved",
        "certification/radii.py",
        "torch.where(won, eps, 0.0))",
        "torch.where(~lost, eps, 0.0))",
        (f"{LADDER}::test_radii_are_those_of_the_bisection_and_never_cross",),
    ),
    Mutant(
        "a rest is half as steep",
        "certification/split.py",
        "return centre, up(max(most - centre, centre - least), 1 + 4 * UNIT)",
        "return centre, up(max(most - centre, centre - least) / 2, 1 + 4 * UNIT)",
        (SPLIT,),
    ),
    Mutant(
        "branches that are added count once",
        "certification/split.py",
        "matrix = sum(sign * p.matrix for sign, p in there if p.matrix is not None)",
        "matrix = there[0][1].matrix",
        (SPLIT,),
    ),
)

BOUNDS_IN_TRAINING = "tests/reference/test_training_bounds.py"
OBJECTIVES = "tests/reference/test_robust_objectives.py"
GLORO = "tests/reference/test_gloro_network.py"
LIPSCHITZ_LAYERS = "tests/reference/test_lipschitz_layers.py"
FIT = "tests/unit/training/test_fit.py"

TRAINING = (
    Mutant(
        "a sum counts its larger branch alone",
        "training/power.py",
        "return whole.sum() if isinstance(op, Add)",
        "return whole.amax() if isinstance(op, Add)",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "overlapping windows count once",
        "training/power.py",
        "return math.sqrt(op.overlap)",
        "return 1.0",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "an iterate that vanished stays so",
        "training/power.py",
        "v = torch.where(length > 0, back / length.clamp(min=TINY), v)",
        "v = back / length.clamp(min=TINY)",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "a weight that was read stays what it was",
        "training/graph.py",
        "return with_weight(self.op.map, self.weight())",
        "return with_weight(self.op.map, self.weight().detach() * 0 + weight_of(self.op.map))",
        (
            BOUNDS_IN_TRAINING,
            OBJECTIVES,
        ),
    ),
    Mutant(
        "any number that fits once is a source",
        "training/graph.py",
        "kept = [source for source in weights if _near(source(), value)]",
        "kept = weights or [lambda: value]",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "weights that were moved stay so",
        "training/graph.py",
        "            value.data.copy_(before)",
        "            pass",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "Gram iteration takes one root too many",
        "training/gram.py",
        "log = log + _frobenius(g).log() * 2.0**-steps",
        "log = log + _frobenius(g).log() * 2.0 ** -(steps + 1)",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "the torus is shorter than the padded image",
        "training/gram.py",
        "map.source[1 + axis] + 2 * map.padding[axis], kernel)",
        "map.source[1 + axis] // 2, kernel)",
        (BOUNDS_IN_TRAINING,),
    ),
    Mutant(
        "⊥ forgets the radius",
        "nn/head.py",
        "return (logits + eps * pairs[j]).masked_fill",
        "return (logits + pairs[j]).masked_fill",
        (OBJECTIVES,),
    ),
    Mutant(
        "⊥ counts the class predicted",
        "nn/head.py",
        "high = (z + reach).masked_fill(own, -torch.inf).amax(1)",
        "high = (z + reach).amax(1)",
        (GLORO,),
    ),
    Mutant(
        "a tie is an answer",
        "nn/head.py",
        "tie = ~(high < top)",
        "tie = ~(high <= top) & False",
        (GLORO,),
    ),
    Mutant(
        "errors of the logits are left out of ⊥",
        "nn/head.py",
        "room = self.slope[j] * length.double()[:, None] + self.base[j]",
        "room = 0 * length.double()[:, None] + self.base[j]",
        (GLORO,),
    ),
    Mutant(
        "EMMA moves a class too far",
        "training/certified.py",
        ".clamp(LEAST, 1.0)",
        ".clamp(LEAST, 2.0)",
        (OBJECTIVES,),
    ),
    Mutant(
        "TRADES with ⊥ has the wrong sign",
        "training/certified.py",
        "moved = functional.softplus(out - whole).mean()",
        "moved = functional.softplus(whole - out).mean()",
        (OBJECTIVES,),
    ),
    Mutant(
        "interval training forgets magnitudes",
        "training/interval.py",
        "centre, away = map(middle), map.absolute()(radius)",
        "centre, away = map(middle), map(radius)",
        (OBJECTIVES,),
    ),
    Mutant(
        "a subtraction keeps the ends of its box",
        "training/interval.py",
        "(s, p) if sign > 0 else (-p, -s)",
        "(s, p) if sign > 0 else (-s, -p)",
        (OBJECTIVES,),
    ),
    Mutant(
        "the divergence goes the other way",
        "training/objective.py",
        "return (one.exp() * (one - other)).sum(1)",
        "return (other.exp() * (other - one)).sum(1)",
        (OBJECTIVES,),
    ),
    Mutant(
        "the guard takes the last wrong point",
        "training/objective.py",
        "for part in range(self.guard - 1, 0, -1):",
        "for part in range(1, self.guard):",
        (OBJECTIVES,),
    ),
    Mutant(
        "a leading set may lose to its own",
        "training/relaxed.py",
        "radii = [every[:, :k, k:].flatten(1).amin(1)",
        "radii = [every[:, :k, k:].flatten(1).amax(1)",
        (GLORO,),
    ),
    Mutant(
        "sets of affinity are joined",
        "training/relaxed.py",
        "inside.long().cumprod(2).bool().any(0)",
        "inside.any(0, keepdim=True).long().cumprod(2).bool().any(0)",
        (GLORO,),
    ),
    Mutant(
        "a residual layer forgets its depth",
        "nn/residual.py",
        "change: Tensor = self.gamma[:, None] * self.raw / self.depth**0.5",
        "change: Tensor = self.gamma[:, None] * self.raw",
        (LIPSCHITZ_LAYERS,),
    ),
    Mutant(
        "a checkpoint loses the iterates",
        "training/fit.py",
        'return {"network": self.network} | ({} if state is None else {"objective": state})',
        'return {"network": self.network}',
        (FIT,),
    ),
    Mutant(
        "a resumed epoch starts anew",
        "training/fit.py",
        "batches[progress.step - epoch * self.per_epoch :]",
        "batches[:]",
        (FIT,),
    ),
    Mutant(
        "a process counts its part as the whole",
        "training/fit.py",
        "(loss * share).backward()",
        "loss.backward()",
        (FIT,),
    ),
)

EXACTLY = (
    Mutant(
        "the larger of a pair is the smaller",
        "certification/rectified.py",
        "Add((1.0, 1.0)), [base, lifted]",
        "Add((1.0, -1.0)), [base, lifted]",
        (RECTIFIED,),
    ),
    Mutant(
        "a pair is exchanged the wrong way",
        "certification/rectified.py",
        "Add((1.0, -1.0, 1.0)), [place, *parts]",
        "Add((1.0, 1.0, -1.0)), [place, *parts]",
        (RECTIFIED,),
    ),
    Mutant(
        "any difference of a rewritten network passes",
        "certification/rectified.py",
        "if not bool((away <= room[place]).all()):",
        "if not bool((away <= math.inf).all()):",
        (RECTIFIED,),
    ),
    Mutant(
        "the merging network ends early",
        "certification/rectified.py",
        "d, q, r = q - p, q // 2, p",
        "d, q, r = q - p, p, p",
        (RECTIFIED,),
    ),
    Mutant(
        "windows of a pool have padding at one place",
        "models/entries.py",
        "at = starts[:, None] + d * np.arange(k)",
        "at = (starts[:, None] + d * np.arange(k)).clip(0)",
        (RECTIFIED,),
    ),
    Mutant(
        "a sum is spent as if elements had no ends",
        "certification/program.py",
        "return far * t[:, 0] + over.sum(1)",
        "return far * t[:, 0]",
        (EXACT,),
    ),
    Mutant(
        "one of several possible winners takes all",
        "certification/jacobian.py",
        "alone = (can.sum(-1) == 1)[:, None]",
        "alone = (can.sum(-1) >= 1)[:, None]",
        (JACOBIAN,),
    ),
    Mutant(
        "an element that is sorted has fewer ranks",
        "certification/jacobian.py",
        "last = len(rank) - 1 - (low",
        "last = len(rank) - 2 - (low",
        (JACOBIAN,),
    ),
    Mutant(
        "a pair whose order is open is taken as it stands",
        "certification/jacobian.py",
        "mean = wider(least, most)",
        "mean = least",
        (JACOBIAN,),
    ),
    Mutant(
        "the chord of a kink is too steep",
        "certification/relaxed.py",
        "offset = torch.where(against, -bend * chord * low, 0)",
        "offset = torch.where(against, bend * chord * low, 0)",
        (EXACT,),
    ),
    Mutant(
        "a layer's bias is left out of the rows",
        "certification/relaxed.py",
        "return 0.0 if op.bias is None else flat(coef * op.bias.double()).sum(1)",
        "return 0.0",
        (EXACT,),
    ),
    Mutant(
        "the half-space of a neuron has the other side",
        "certification/polyhedral.py",
        "unit.view(-1)[neuron[1]] = -side",
        "unit.view(-1)[neuron[1]] = side",
        (EXACT,),
    ),
    Mutant(
        "caps are smaller than they are",
        "certification/caps.py",
        "return r + mu * self.rho - most - error",
        "return r + mu * self.rho - 0.9 * most - error",
        (EXACT,),
    ),
    Mutant(
        "the dual is proved without its square",
        "certification/program.py",
        "value = square / 2 + float(w @ d) + rho",
        "value = square + float(w @ d) + rho",
        (EXACT,),
    ),
    Mutant(
        "what was left is not remembered",
        "certification/polyhedral.py",
        "return min([self.floor, *(entry[0] for entry in self.heap[:1]), self.limit])",
        "return self.limit",
        (EXACT,),
    ),
    Mutant(
        "usefulness under attack takes the same end for both sides",
        "metrics/usefulness.py",
        "told(units, units), told(low, high)",
        "told(units, units), told(low, low)",
        (FEATURES,),
    ),
    Mutant(
        "the next class is the class",
        "attacks/feature_sets.py",
        "(clean.y + 1) %",
        "(clean.y + 0) %",
        (FEATURES,),
    ),
)

QUERIED = "tests/unit/attacks/test_black_box.py"
PRESSED = "tests/unit/attacks/test_pressed.py"
BY_QUERIES = (
    Mutant(
        "units are taken twice on the way back",
        "attacks/units.py",
        "return x + unit * u",
        "return x + unit * unit * u",
        (QUERIED,),
    ),
    Mutant(
        "what is held is searched",
        "attacks/units.py",
        "return mask[0].expand(x.shape[1]).nonzero()[:, 0]",
        "return (~mask[0]).expand(x.shape[1]).nonzero()[:, 0]",
        (QUERIED,),
    ),
    Mutant(
        "scores are asked where they stand still",
        "attacks/black_box.py",
        "moves |= value != clean",
        "moves |= value == clean",
        (QUERIED,),
    ),
    Mutant(
        "a model without gradients is attacked along them",
        "audit/sections/robustness/sweep.py",
        "first=sweep.queried[0], search=sweep.queried[1]",
        "search=sweep.queried[1]",
        (QUERIED,),
    ),
    Mutant(
        "what came near is measured from nothing",
        "attacks/pressed.py",
        "self.within * (clean - goal)",
        "self.within * clean.abs().ceil()",
        (PRESSED,),
    ),
    Mutant(
        "what is far is attacked further",
        "attacks/pressed.py",
        "least - goal <= self.within",
        "least - goal >= self.within",
        (PRESSED,),
    ),
    Mutant(
        "what was worse is kept",
        "attacks/pressed.py",
        ".double() < least[rows]",
        ".double() > least[rows]",
        (PRESSED,),
    ),
)

MUTANTS = (
    *BY_QUERIES,
    *JOINED,
    *TRAINING,
    *EXACTLY,
    *EXCHANGED,
    *LOOKED_AT,
    *HIP,
    *INFLUENCES,
    *STRONGER,
    *CORE,
    *MODELS,
    *METHODS,
    *OTHER_DOMAINS,
    *CERTIFICATION,
    *SEMANTIC_METHODS,
    *TRACES,
    *EVALUATIONS,
    *PERTURBATION_METHODS,
    *PROPAGATION,
    *LINEAR,
)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    state: str  # killed, survived, or why it was not tried
    seconds: float = 0.0
    by: str = ""


def misplaced(mutants: Sequence[Mutant], root: Path) -> list[Outcome]:
    """List the patches that do not fit the sources."""
    found = []
    for mutant in mutants:
        count = (
            (root / "src" / "conjoin" / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        )
        if count != 1 or mutant.old == mutant.new:
            found.append(Outcome(mutant, f"error: its old text occurs {count} times"))
    return found


def copied(target: Path) -> Path:
    """Copy what the tests need; they import the copy, never the working tree."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy(source, target / name)
    return target


def tested(root: Path, tests: Sequence[str], timeout: float | None, *words: str) -> tuple[int, str]:
    """Run tests in a folder; return the exit status (of a failure if they hang) and the output."""
    out = root / "output.txt"
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(root, [*words, *tests], out)
    )
    child.start()
    child.join(timeout)
    if child.is_alive():
        child.kill()
        child.join()
        return FAILED, "FAILED: out of time"
    return child.exitcode or 0, out.read_text(encoding="utf-8", errors="replace")


def _child(root: Path, words: Sequence[str], out: Path) -> None:
    """Run pytest here; the slow imports were done before the fork, those of the copy were not."""
    with out.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(root)
    sys.path.insert(0, str(root / "src"))
    os._exit(int(pytest.main(["-q", "-o", "addopts=", "-p", "no:cacheprovider", *words])))


def failures(output: str) -> list[str]:
    """Return the tests that failed, by pytest's short summary."""
    return re.findall(r"^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$", output, re.M)


def tried(mutant: Mutant, root: Path, timeout: float) -> Outcome:
    """Apply a mutant to the copy, run its tests, take it back."""
    file, start = root / "src" / "conjoin" / mutant.file, time.monotonic()
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        status, output = tested(root, mutant.tests, timeout, "-x")
    finally:
        file.write_text(before, encoding="utf-8")
    state = {0: "survived", FAILED: "killed"}.get(status, f"error: pytest ended with {status}")
    by = failures(output) if status == FAILED else []
    return Outcome(mutant, state, time.monotonic() - start, by[0] if by else "")


def confirmed(outcomes: Sequence[Outcome], root: Path) -> list[Outcome]:
    """Take back what was killed by a test that fails without any patch."""
    killers = sorted({outcome.by for outcome in outcomes if outcome.by})
    broken = failures(tested(root, killers, None)[1]) if killers else []
    return [
        replace(outcome, state=f"error: fails without any patch: {outcome.by}")
        if outcome.by in broken
        else outcome
        for outcome in outcomes
    ]


def chosen(words: argparse.Namespace) -> list[Mutant]:
    """Select mutants by number or by text."""
    numbered = list(enumerate(MUTANTS, 1))
    if words.only:
        numbered = [(n, m) for n, m in numbered if n in words.only]
    if words.match:
        text = words.match.lower()
        numbered = [(n, m) for n, m in numbered if text in f"{m.name} {m.file}".lower()]
    return [m for _, m in numbered]


def main() -> int:
    """Try the mutants; return 0 if none survived without a reason."""
    parser = argparse.ArgumentParser(description="Try deliberate defects against the tests.")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="their numbers")
    parser.add_argument("--match", metavar="TEXT", help="those with this in name or file")
    parser.add_argument("--list", action="store_true", help="show them and check that they fit")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds per mutant")
    words = parser.parse_args()
    os.environ |= {
        "JAXTYPING_DISABLE": "1",  # what is killed is killed by a test, not by a type
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    torch.set_num_threads(1)
    mutants = chosen(words)
    wrong = misplaced(mutants, ROOT)
    for outcome in wrong:
        print(f"{outcome.state}: {outcome.mutant.name} ({outcome.mutant.file})")
    if words.list:
        for number, mutant in enumerate(MUTANTS, 1):
            if mutant in mutants:
                print(f"{number:4} {mutant.file:28} {mutant.name}")
    if words.list or wrong:
        return int(bool(wrong))
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = copied(Path(folder))
        for mutant in mutants:
            outcome = tried(mutant, root, words.timeout)
            number = MUTANTS.index(mutant) + 1
            print(
                f"{number:4} {outcome.state:9} {outcome.seconds:5.0f} s  {mutant.file}: "
                f"{mutant.name} <- {outcome.by.split('::')[-1]}",
                flush=True,
            )
            outcomes.append(outcome)
        outcomes = confirmed(outcomes, root)
    return report(outcomes)


def report(outcomes: Sequence[Outcome]) -> int:
    """Print the table; return 1 if a mutant survived without a reason or was not tried."""
    left = [o for o in outcomes if o.state != "killed"]
    print(f"\n{len(outcomes) - len(left)} of {len(outcomes)} mutants were killed.")
    bad = 0
    for outcome in left:
        accepted = outcome.state == "survived" and outcome.mutant.reason
        bad += not accepted
        said = f"accepted: {outcome.mutant.reason}" if accepted else "A TEST IS MISSING"
        said = outcome.state if outcome.state.startswith("error") else said
        print(f"  {outcome.mutant.file}: {outcome.mutant.name}\n      {said}")
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())

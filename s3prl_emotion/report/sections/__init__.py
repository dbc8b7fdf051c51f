"""The sections of a report, in their order. To add one: a module with a subclass of ``Section``, and a line here."""

from __future__ import annotations

from s3prl_emotion.report.sections.agreement import Agreement
from s3prl_emotion.report.sections.base import Section
from s3prl_emotion.report.sections.curves import LearningCurves
from s3prl_emotion.report.sections.embeddings import UtteranceEmbeddings
from s3prl_emotion.report.sections.ensembles import EnsemblesSection
from s3prl_emotion.report.sections.explanation import HowToRead
from s3prl_emotion.report.sections.factors import TwoFactors
from s3prl_emotion.report.sections.hypotheses import Hypotheses
from s3prl_emotion.report.sections.latent import LatentRepresentation
from s3prl_emotion.report.sections.layer_scores import ScoresByLayer
from s3prl_emotion.report.sections.layers import Layers
from s3prl_emotion.report.sections.leaderboard import LeaderboardSection
from s3prl_emotion.report.sections.learning_rates import LearningRates
from s3prl_emotion.report.sections.provenance import WhatWasRun
from s3prl_emotion.report.sections.published import PublishedResults
from s3prl_emotion.report.sections.robustness import Robustness
from s3prl_emotion.report.sections.scores import Scores
from s3prl_emotion.report.sections.seeds import Seeds
from s3prl_emotion.report.sections.sharing import SharingSpeakers
from s3prl_emotion.report.sections.speakers import Speakers

SECTIONS: tuple[type[Section], ...] = (
    LeaderboardSection,
    SharingSpeakers,
    # for each upstream
    Robustness,
    # for each test split of the upstream
    Scores,
    ScoresByLayer,
    TwoFactors,
    Seeds,
    EnsemblesSection,
    Hypotheses,
    Speakers,
    Agreement,
    UtteranceEmbeddings,
    # for the upstream again
    LatentRepresentation,
    Layers,
    LearningCurves,
    # for the study
    LearningRates,
    PublishedResults,
    HowToRead,
    WhatWasRun,
)

"""Hamlet, the embedded world: a small village, its facts, and any amount of text about it."""

from foundling.hamlet.corpus import (
    Document,
    documents,
    labelled_documents,
    take,
    text,
    write_corpus,
)
from foundling.hamlet.examination import exact_match, held_out_questions
from foundling.hamlet.facts import Fact, Phrasings
from foundling.hamlet.instructions import instructions, write_instructions
from foundling.hamlet.judgement import Judgement, judge
from foundling.hamlet.prompts import prompts, write_prompts
from foundling.hamlet.recognition import recognise
from foundling.hamlet.rudeness import RUDE_WORDS
from foundling.hamlet.winograd import WinogradPair, winograd_pairs
from foundling.hamlet.world import World

__all__ = [
    "RUDE_WORDS",
    "Document",
    "Fact",
    "Judgement",
    "Phrasings",
    "WinogradPair",
    "World",
    "documents",
    "exact_match",
    "held_out_questions",
    "instructions",
    "judge",
    "labelled_documents",
    "prompts",
    "recognise",
    "take",
    "text",
    "winograd_pairs",
    "write_corpus",
    "write_instructions",
    "write_prompts",
]

"""Hamlet, the embedded world: a small village, its facts, and any amount of text about it."""

from foundling.data.hamlet.corpus import (
    Document,
    documents,
    labelled_documents,
    take,
    text,
    write_corpus,
)
from foundling.data.hamlet.examination import exact_match, held_out_questions
from foundling.data.hamlet.facts import Fact, Phrasings
from foundling.data.hamlet.instructions import instructions, write_instructions
from foundling.data.hamlet.judgement import Judgement, judge
from foundling.data.hamlet.prompts import prompts, write_prompts
from foundling.data.hamlet.recognition import recognise
from foundling.data.hamlet.rudeness import RUDE_WORDS
from foundling.data.hamlet.winograd import WinogradPair, winograd_pairs
from foundling.data.hamlet.world import World

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

"""Where things lie in the folder of a crawl, and what its stages are called."""

DOCUMENTS = "documents"  # what is left, as JSONL
STORE = "store"  # the same as tokens
REPORT = "report.json"  # the crawl has ended
WORK = "work"  # what one stage leaves for the next
JOBS = "jobs.json"  # the ids of those submitted to Slurm
KEPT = f"{WORK}/kept"  # documents that the rules have kept
RECORD = "crawl.json"  # what the crawl was started with
LOGS = "logs"  # datatrove's, with its statistics and what is completed
REMOVED = "removed"  # examples

RULES, SIGNATURES, BUCKETS, CLUSTERS, FINAL = (
    "rules", "signatures", "buckets", "clusters", "documents",
)  # fmt: skip
NEAR_DUPLICATES = "near_duplicates"
MASKING = "personal data"  # a step that removes nothing

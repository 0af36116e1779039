"""Web pages to documents to shards, as a datatrove pipeline; needs the extra `web`.

`settings` says every threshold with its source, `crawl` runs the stages, and nothing else imports
datatrove.
"""

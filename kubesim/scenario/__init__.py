"""One scenario: from its file to a plan, and from the trace to results."""

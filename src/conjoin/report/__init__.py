"""The audit: plan, results, findings, report."""

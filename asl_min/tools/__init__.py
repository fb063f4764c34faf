"""What looks at runs: reports, questions to a checkpoint, audits, exports, plans."""
